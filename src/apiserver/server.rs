//! Both halves, assembled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::request::User;
use base::{OnError, Tasks};
use client::{ApiRef, Measured, QueueMetrics};
use store::Store;
use tokio::sync::watch;

use crate::audit::Audited;
use crate::authz::Authorizer;
use crate::config::ServerConfig;
use crate::health::Check;
use crate::http::local::LocalService;
use crate::http::{Answers, Door};
use crate::leading::while_leading;
use crate::members::Standing;
use crate::metrics::register_process;
use crate::nodes::NodeLinks;
use crate::pki::Pki;
use crate::trust;

mod access;
mod assembly;
mod checks;
mod credentials;
mod duties;
mod error;
mod keeping;
mod newcomer;
mod prepared;
mod witness;
mod witness_tls;

pub use error::StartError;
use newcomer::taken_in;
pub use prepared::Prepared;
use prepared::{Kept, Opened};

/// A running API server. Cheap to clone; it ends with the tasks it was started on.
#[derive(Clone)]
pub struct ApiServer {
    door: Arc<Door>,
    /// The door's API as callers in this process see it.
    own: ApiRef,
    queues: QueueMetrics,
    store: Store,
    pki: Arc<Pki>,
    addresses: Arc<[SocketAddr]>,
    /// How long open requests may take to end.
    patience: Duration,
}

impl ApiServer {
    /// Opens the PKI, prepares the cluster in `store` and listens. Ready for requests when it
    /// returns. The server ends when `tasks` are cancelled.
    pub async fn start(config: ServerConfig, store: Store, tasks: &Tasks) -> Result<Self, StartError> {
        Self::start_prepared(Prepared::new(config).await?, store, tasks).await
    }

    /// [`ApiServer::start`] of a server that was prepared before its store was open, and so can
    /// be one of several. One that has just joined is ready when it has the cluster's state.
    pub async fn start_prepared(prepared: Prepared, store: Store, tasks: &Tasks) -> Result<Self, StartError> {
        let started = Instant::now();
        let (opening, opened) = watch::channel(None);
        let port = prepared.port();
        let Opened {
            config,
            addresses,
            credentials,
            given_up,
        } = prepared.listen(&store, opened, tasks)?;
        let Kept::Full(credentials) = credentials else {
            return Err(StartError::Setting(
                "a witness has no keys to serve the API with".into(),
            ));
        };
        let pki = credentials.pki.clone();
        let alone = taken_in(&store).await? == Standing::Alone;
        store.register(&config.metrics);
        register_process(&config.metrics);
        let take_up = move |agreed: &crate::pki::Trust| credentials.take_up(agreed);
        let follow = trust::follow(store.clone(), pki.clone(), take_up);
        tasks.spawn("follow the cluster's keys", OnError::Shutdown, follow);
        let vault = keeping::vault(&config, &store, tasks).await?;
        let (door, core) = assembly::door(&config, port, &pki, &vault, alone, given_up, tasks).await?;
        let door = Arc::new(door);
        opening.send_replace(Some(door.clone() as Arc<dyn Answers>));
        duties::background(&config, &pki, &door, store.clone(), tasks);
        duties::lead(&config, &door, core, &store, alone, tasks);
        let own = Audited::wrap(door.api.clone(), &door.audit);
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(?addresses, took_ms, "API server ready");
        Ok(Self {
            own: Measured::wrap(own, &door.address, &config.metrics),
            queues: QueueMetrics::new(&config.metrics),
            door,
            store,
            pki,
            addresses: addresses.into(),
            patience: config.shutdown_grace,
        })
    }

    /// Calls `start` whenever this server begins to lead, with tasks that end when it leads no more.
    pub fn while_leading(&self, tasks: &Tasks, name: &str, start: impl Fn(&Tasks) + Send + 'static) {
        while_leading(&self.store, tasks, name, start);
    }

    /// From now on the server says that it is not ready; it goes on answering. Returns what to wait for before it is
    /// ended: those who look at it have had time to see that, and what they have asked is answered.
    pub fn depart(&self, delay: Duration) -> impl Future<Output = ()> + use<> {
        let (departure, patience) = (self.door.departure.clone(), self.patience);
        departure.begin();
        let delayed = tokio::time::Instant::now() + delay;
        async move {
            tokio::time::sleep_until(delayed).await;
            departure.finish(patience).await;
        }
    }

    /// The API for callers in this process: the same door, the user a field of the request.
    pub fn api(&self) -> ApiRef {
        self.own.clone()
    }

    /// Where work queues in this process come from, so that this server's `/metrics` shows them.
    pub fn queues(&self) -> QueueMetrics {
        self.queues.clone()
    }

    /// The server as an HTTP service in this process, for one user.
    pub fn service(&self, user: User) -> LocalService {
        LocalService::new(self.door.clone(), user)
    }

    /// The way to the nodes, and where agents in this process register.
    pub fn nodes(&self) -> NodeLinks {
        self.door.nodes.clone()
    }

    /// The cluster's keys and certificates.
    pub fn pki(&self) -> &Arc<Pki> {
        &self.pki
    }

    /// What decides who may do what.
    pub fn authorizer(&self) -> Arc<dyn Authorizer> {
        self.door.authorizer.clone()
    }

    /// Where it listens, ports chosen.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Adds a part to `/readyz` (and to `/livez` and `/healthz` unless `ready_only`).
    pub fn add_check(&self, name: &str, ready_only: bool, check: Check) {
        self.door.health.add(name, ready_only, check);
    }
}

#[cfg(test)]
mod tests;
