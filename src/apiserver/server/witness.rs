//! What a witness answers: how it is, and how it sees the others. It has no objects, so there is no API here. Whoever
//! leads brings it other keys here when the cluster changes its own.

use std::net::SocketAddr;
use std::sync::Arc;

use api::status::Status;
use base::{Clock, Tasks};
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use rustls::pki_types::CertificateDer;
use serde::Serialize;
use store::Store;
use tokio::sync::watch;

use super::assembly::{departing, members};
use super::checks;
use super::error::StartError;
use super::newcomer::taken_in;
use super::prepared::{self, Prepared};
use super::witness_tls::Kept;
use crate::authn::{CertificateUser, Certificates};
use crate::body;
use crate::body::Body;
use crate::health::{Health, Probe};
use crate::http::query::Query;
use crate::http::{Answers, Caller, metrics, reply};
use crate::members::Members;
use crate::members::wire::ROOT;
use crate::metrics::register_process;
use crate::pki::Signers;
use crate::pki::witness::WitnessTrust;
use crate::registry::refuse;
use crate::trust::wire::WITNESS;
use crate::version;

const ADMINISTRATORS: &str = "system:masters";
/// Longest document with keys.
const KEYS_BYTES_MAX: usize = 1 << 20;

/// What requests to a witness need.
struct Witness {
    kept: Kept,
    members: Members,
    health: Health,
    metrics: base::telemetry::Metrics,
    clock: Arc<dyn Clock>,
}

impl Prepared {
    /// Serves as a witness until `tasks` are cancelled. Ready when it has been taken in; returns where it listens.
    ///
    /// # Errors
    /// When TLS does not take the keys, or this server has no place in the cluster any more.
    pub async fn start_witness(self, store: Store, tasks: &Tasks) -> Result<Vec<SocketAddr>, StartError> {
        let (opening, opened) = watch::channel(None);
        let address = self.address().to_string();
        let (config, addresses) = (self.config.clone(), self.addresses.clone());
        let prepared::Kept::Witness(kept) = self.listen(&store, opened, tasks)?.credentials else {
            return Err(StartError::Setting("a witness does not have all keys".into()));
        };
        taken_in(&store).await?;
        store.register(&config.metrics);
        register_process(&config.metrics);
        let answers: Arc<dyn Answers> = Arc::new(Witness {
            kept,
            members: members(&config, &address, None, &store),
            health: checks::of_every_server(&store, &departing(tasks), tasks),
            metrics: config.metrics.clone(),
            clock: config.clock.clone(),
        });
        opening.send_replace(Some(answers));
        tracing::info!(?addresses, "witness ready");
        Ok(addresses)
    }
}

impl Answers for Witness {
    fn certificate(&self, chain: Option<&[CertificateDer<'static>]>) -> CertificateUser {
        let roots = &self.kept.keys.now().client_roots;
        match Certificates::of_clients(roots) {
            Ok(trusted) => trusted.check(chain.unwrap_or_default(), self.clock.now()),
            // They were read when they were taken up, so this cannot be.
            Err(error) => {
                tracing::error!(%error, "the authorities of clients cannot be used");
                CertificateUser::Unproven
            }
        }
    }

    fn signers(&self) -> Signers {
        self.kept.keys.signers()
    }

    fn answer(self: Arc<Self>, caller: Caller, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        Box::pin(async move {
            let path = request.uri().path().strip_prefix(ROOT);
            let brought = request.method() == Method::POST
                && path.and_then(|own| own.strip_prefix('/')) == Some(WITNESS);
            let answered = match brought {
                true => self.take_up(&caller, request).await,
                false => self.find(&caller, &request).await,
            };
            answered.unwrap_or_else(|status| reply::failure(&status))
        })
    }
}

impl Witness {
    /// Takes up the keys that the leader brings.
    async fn take_up(&self, caller: &Caller, request: Request<Body>) -> Result<Response<Body>, Status> {
        self.only_administrators(caller, request.uri().path())?;
        let text = body::read(request.into_body(), KEYS_BYTES_MAX).await;
        let text = text.map_err(|error| Status::bad_request(error.to_string()))?;
        let document = WitnessTrust::parse(&text).map_err(Status::bad_request)?;
        let kept = self.kept.clone();
        // Files are written and synced, which may take a slow disk a while.
        let taken = tokio::task::spawn_blocking(move || kept.take_up(&document)).await;
        let generation = taken.map_err(Status::internal)?.map_err(Status::internal)?;
        tracing::info!(generation, "the cluster's keys were taken up");
        json(&generation)
    }

    async fn find(&self, caller: &Caller, request: &Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path();
        if request.method() != Method::GET {
            return Err(self.elsewhere().await);
        }
        if let Some((probe, part)) = Probe::of(path) {
            let query = Query::parse(request.uri().query().unwrap_or_default());
            let found = self.health.answer(probe, part, &query);
            return Ok(found.map_or_else(
                || reply::text(404, "404 page not found\n"),
                |(code, text)| reply::text(code, text),
            ));
        }
        let own = path.strip_prefix(ROOT).unwrap_or_default();
        match (path, own) {
            ("/version", _) => json(&version::info()),
            ("/metrics", _) => {
                self.only_administrators(caller, path)?;
                self.members.measure().await;
                Ok(metrics(request.headers(), &self.metrics))
            }
            (_, "/members") => {
                self.only_administrators(caller, path)?;
                json(&self.members.list().await?)
            }
            (_, "/status") => {
                self.only_administrators(caller, path)?;
                json(&self.members.state().await.map_err(refuse::status)?)
            }
            _ => Err(self.elsewhere().await),
        }
    }

    /// There are no roles here that could give access to anybody else.
    fn only_administrators(&self, caller: &Caller, path: &str) -> Result<(), Status> {
        let name = match caller {
            Caller::Remote { certificate, .. } => match &**certificate {
                CertificateUser::Known { user, ends, by }
                    if *ends > self.clock.now().as_second()
                        && self.kept.keys.signers().borrow().contains(by) =>
                {
                    if user.groups.iter().any(|group| group == ADMINISTRATORS) {
                        return Ok(());
                    }
                    user.name.clone()
                }
                CertificateUser::Nobody => "system:anonymous".to_owned(),
                _ => return Err(Status::unauthorized()),
            },
            Caller::Local(user) => user.name.clone(),
        };
        let text = format!("User {name:?} cannot get path {path:?}: a witness answers administrators only");
        Err(Status::new(403, "Forbidden", text))
    }

    /// Where somebody should ask who asks for the API.
    async fn elsewhere(&self) -> Status {
        let servers = self
            .members
            .list()
            .await
            .map(|list| list.items)
            .unwrap_or_default();
        let full: Vec<String> = servers
            .into_iter()
            .filter(|member| !member.witness && !member.address.is_empty())
            .map(|member| format!("https://{}", member.address))
            .collect();
        let text = format!(
            "this server is a witness and serves no API: ask {}",
            full.join(" or ")
        );
        Status::new(503, "ServiceUnavailable", text)
    }
}

fn json(value: &impl Serialize) -> Result<Response<Body>, Status> {
    let text = serde_json::to_string(value).map_err(Status::internal)?;
    Ok(reply::response(200, "application/json", text))
}
