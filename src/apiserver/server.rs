//! Both halves, assembled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::request::User;
use api::status::Status;
use base::{Clock, OnError, Tasks};
use client::ApiRef;
use store::Store;
use tokio_rustls::TlsAcceptor;

use crate::authn::{Authn, ServiceAccounts};
use crate::authz::Authorizer;
use crate::config::ServerConfig;
use crate::discovery::Discovery;
use crate::health::{Check, Health};
use crate::http::local::LocalService;
use crate::http::{Door, Listening, bind};
use crate::lookup::{Lookup, StoreLookup};
use crate::metrics::HttpMetrics;
use crate::nodes::NodeLinks;
use crate::openapi_routes::OpenApi;
use crate::pki::{Pki, PkiError, Serving};
use crate::rbac::{self, Rbac};
use crate::registry::{Core, CoreConfig};
use crate::signer::Signer;
use crate::tls;

/// Ordinary requests that may be under way at once; more are told to come back.
const REQUESTS_MAX: usize = 1000;
/// How often the serving certificate is looked at.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(600);

/// Why a server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot listen.
    #[error(transparent)]
    Listen(#[from] std::io::Error),
    /// Keys or certificates are wrong or cannot be made.
    #[error("keys and certificates: {0}")]
    Pki(#[from] PkiError),
    /// The first objects cannot be written.
    #[error("preparing the cluster: {0}")]
    Prepare(#[from] Status),
}

impl From<rustls::Error> for StartError {
    fn from(error: rustls::Error) -> Self {
        StartError::Pki(PkiError::Tls(error))
    }
}

/// A running API server. Cheap to clone; it ends with the tasks it was started on.
#[derive(Clone)]
pub struct ApiServer {
    door: Arc<Door>,
    pki: Arc<Pki>,
    addresses: Arc<[SocketAddr]>,
}

impl ApiServer {
    /// Opens the PKI, prepares the cluster in `store` and listens. Ready for requests when it
    /// returns. The server ends when `tasks` are cancelled.
    pub async fn start(config: ServerConfig, store: Store, tasks: &Tasks) -> Result<Self, StartError> {
        let started = Instant::now();
        let listeners = bind(&config.listen).await?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let port = addresses.first().map_or(0, SocketAddr::port);
        let (pki, serving) = keys(&config, port).await?;
        let tls = TlsAcceptor::from(Arc::new(tls::server_config(&pki, serving.clone())?));
        let door = Arc::new(door(&config, port, &pki, &store, tasks).await?);
        let listening = Listening {
            door: door.clone(),
            tls,
            grace: config.shutdown_grace,
        };
        listening.start(listeners, tasks);
        background(&config, &pki, serving, &door, store, tasks);
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(?addresses, took_ms, "API server ready");
        Ok(Self {
            door,
            pki,
            addresses: addresses.into(),
        })
    }

    /// The API for callers in this process: the same door, the user a field of the request.
    pub fn api(&self) -> ApiRef {
        self.door.api.clone()
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

/// The user as which the server itself writes.
fn own_user() -> User {
    User::new("system:apiserver", &["system:masters"])
}

async fn keys(config: &ServerConfig, port: u16) -> Result<(Arc<Pki>, Arc<Serving>), StartError> {
    let config = config.clone();
    // Files are written and synced, which may take a slow disk a while.
    let opened = tokio::task::spawn_blocking(move || {
        let now = config.clock.now();
        let pki = Pki::open(&config, port, now)?;
        let serving = pki.serving(&config, now)?;
        Ok::<_, PkiError>((Arc::new(pki), Arc::new(serving)))
    });
    Ok(opened.await.map_err(std::io::Error::other)??)
}

/// Prepares the cluster and puts together what every request needs.
async fn door(
    config: &ServerConfig,
    port: u16,
    pki: &Arc<Pki>,
    store: &Store,
    tasks: &Tasks,
) -> Result<Door, StartError> {
    let lookup: Arc<dyn Lookup> = Arc::new(StoreLookup(store.clone()));
    let tokens = ServiceAccounts::new(pki, &config.issuer(), lookup.clone(), config.clock.clone())?;
    let tokens = Arc::new(tokens);
    let rbac = Arc::new(Rbac::new(lookup.clone()));
    let core = Core::new(
        store.clone(),
        core_config(config, port),
        rbac.clone(),
        tokens.clone(),
    )?;
    core.bootstrap().await?;
    let kinds = core.kinds().clone();
    let definitions = core.load_definitions();
    tasks.spawn(
        "tend definitions",
        OnError::Shutdown,
        core.clone().tend_definitions(definitions),
    );
    let api: ApiRef = Arc::new(core);
    rbac::reconcile::reconcile(&api, &lookup, &own_user()).await?;
    // Not before: what was just written must hold for the first request, not a moment later.
    let revision = rbac.load(store);
    let follow = rbac.clone().follow(store.clone(), revision);
    tasks.spawn("follow roles", OnError::Shutdown, follow);
    let address = SocketAddr::new(config.advertise, port).to_string();
    Ok(Door {
        api,
        authn: Authn::new(
            pki.clone(),
            tokens.clone(),
            config.anonymous,
            config.clock.clone(),
        )?,
        authorizer: rbac,
        lookup,
        nodes: NodeLinks::new(),
        discovery: Discovery::new(kinds.clone(), address.clone()),
        openapi: OpenApi::new(kinds.clone()),
        kinds,
        health: health(store, tasks),
        counters: HttpMetrics::new(&config.metrics),
        metrics: config.metrics.clone(),
        tokens,
        clock: config.clock.clone(),
        stop: tasks.cancelled(),
        address,
        room: tokio::sync::Semaphore::new(REQUESTS_MAX),
    })
}

fn core_config(config: &ServerConfig, port: u16) -> CoreConfig {
    CoreConfig {
        service_cidr: config.service_cidr.clone(),
        node_ports: config.node_ports,
        toleration: config.toleration,
        event_ttl_seconds: config.event_ttl_seconds,
        clock: config.clock.clone(),
        random: config.random.clone(),
        ..CoreConfig::new(config.advertise, port)
    }
}

fn health(store: &Store, tasks: &Tasks) -> Health {
    let health = Health::new();
    let (store, stop) = (store.clone(), tasks.cancelled());
    let storage: Check = Arc::new(move || {
        store
            .watch("/health/", store.revision())
            .map(drop)
            .map_err(|error| error.to_string())
    });
    health.add("etcd", false, storage);
    health.add("poststarthook/rbac/bootstrap-roles", false, Arc::new(|| Ok(())));
    let stopping: Check = Arc::new(move || {
        if stop.is_cancelled() {
            Err("the server is shutting down".to_owned())
        } else {
            Ok(())
        }
    });
    health.add("shutdown", true, stopping);
    health
}

fn background(
    config: &ServerConfig,
    pki: &Arc<Pki>,
    serving: Arc<Serving>,
    door: &Arc<Door>,
    store: Store,
    tasks: &Tasks,
) {
    let clock = config.clock.clone();
    let signer = Signer {
        api: door.api.clone(),
        store,
        pki: pki.clone(),
        authorizer: door.authorizer.clone(),
        clock: clock.clone(),
        user: own_user(),
    };
    tasks.spawn("sign certificates", OnError::Shutdown, signer.run());
    let pki = pki.clone();
    tasks.spawn(
        "renew serving certificate",
        OnError::Log,
        renew(pki, serving, clock),
    );
}

/// Takes up a certificate that was put in the folder and renews one that ends soon, for ever.
async fn renew(pki: Arc<Pki>, serving: Arc<Serving>, clock: Arc<dyn Clock>) -> Result<(), PkiError> {
    loop {
        tokio::time::sleep(RENEWAL_INTERVAL).await;
        if let Err(error) = pki.renew(&serving, clock.now()) {
            tracing::warn!(%error, "the serving certificate could not be renewed");
        }
    }
}

#[cfg(test)]
mod tests;
