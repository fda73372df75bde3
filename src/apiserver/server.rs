//! Both halves, assembled.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::request::User;
use api::status::Status;
use base::{OnError, Tasks};
use client::ApiRef;
use store::{Store, StoreError};
use tokio::sync::watch;

use crate::aggregation::{Aggregation, Others};
use crate::audit::{Audit, Audited};
use crate::authn::{Authn, RequestHeaders, ServiceAccounts};
use crate::authz::Authorizer;
use crate::config::ServerConfig;
use crate::discovery::Discovery;
use crate::fairness::Fairness;
use crate::health::Check;
use crate::http::local::LocalService;
use crate::http::{Answers, Departure, Door, Intake, Waiting};
use crate::leading::{follow_contact, while_leading};
use crate::lookup::{Lookup, StoreLookup};
use crate::members::{Gauges, Here, Members, Standing, endpoints};
use crate::metrics::HttpMetrics;
use crate::mirror::{self, Mirror};
use crate::nodes::{Dialer, NodeLinks};
use crate::openapi_routes::OpenApi;
use crate::outbound::Outbound;
use crate::pki::{Pki, PkiError};
use crate::rbac::{self, Rbac};
use crate::registry::{Core, CoreConfig, Trust};
use crate::signer::Signer;
use crate::usage::{self, Usage};
use crate::vault::Vault;
use crate::whole::Whole;

mod access;
mod credentials;
mod keeping;
mod prepared;
mod witness;

pub use prepared::Prepared;
use prepared::{Keys, Opened};

/// How often a server that is joining looks whether it has the cluster's state.
const NEWCOMER_INTERVAL: Duration = Duration::from_millis(20);
/// Between attempts to prepare the cluster.
const PREPARE_RETRY: Duration = Duration::from_secs(1);
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
    /// The store has ended, or this server has no place in the cluster any more.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A setting makes no sense; the text says which.
    #[error("{0}")]
    Setting(String),
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
            keys,
        } = prepared.listen(&store, opened, tasks)?;
        let Keys::Full(pki, _) = keys else {
            return Err(StartError::Setting(
                "a witness has no keys to serve the API with".into(),
            ));
        };
        let alone = taken_in(&store).await? == Standing::Alone;
        store.register(&config.metrics);
        let vault = keeping::vault(&config, &store, tasks).await?;
        let (door, core) = door(&config, port, &pki, &vault, alone, tasks).await?;
        let door = Arc::new(door);
        opening.send_replace(Some(door.clone() as Arc<dyn Answers>));
        background(&config, &pki, &door, store.clone(), tasks);
        lead(&config, &door, core, &store, alone, tasks);
        let took_ms = started.elapsed().as_millis() as u64;
        tracing::info!(?addresses, took_ms, "API server ready");
        Ok(Self {
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
        Audited::wrap(self.door.api.clone(), &self.door.audit)
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

/// Waits until this server is part of its cluster and has the cluster's state; what it is then.
async fn taken_in(store: &Store) -> Result<Standing, StoreError> {
    loop {
        match Standing::of(&store.status().await?) {
            Standing::Newcomer => tokio::time::sleep(NEWCOMER_INTERVAL).await,
            Standing::Removed => return Err(StoreError::Removed),
            standing => return Ok(standing),
        }
    }
}

/// Puts together what every request needs. A cluster of this server `alone` is prepared here, before the
/// first request; one of several servers by whoever leads.
async fn door(
    config: &ServerConfig,
    port: u16,
    pki: &Arc<Pki>,
    vault: &Vault,
    alone: bool,
    tasks: &Tasks,
) -> Result<(Door, Core), StartError> {
    let store: &Store = vault;
    let lookup: Arc<dyn Lookup> = Arc::new(StoreLookup(vault.clone()));
    let tokens = ServiceAccounts::new(pki, &config.issuer(), lookup.clone(), config.clock.clone())?;
    let tokens = Arc::new(tokens);
    let bearers = access::bearers(config, tokens.clone(), lookup.clone(), tasks)?;
    let rbac = Arc::new(Rbac::new(lookup.clone()));
    let authorizer = access::authorizer(config, rbac.clone(), tasks)?;
    let nodes = NodeLinks::new();
    let core = Core::new(
        vault.clone(),
        core_config(config, port, nodes.clone(), pki),
        authorizer.clone(),
        bearers.clone(),
    )?;
    if alone {
        core.bootstrap().await?;
    }
    let kinds = core.kinds().clone();
    let definitions = core.load_definitions();
    tasks.spawn(
        "tend definitions",
        OnError::Shutdown,
        core.clone().tend_definitions(definitions),
    );
    tasks.spawn(
        "keep standard objects",
        OnError::Shutdown,
        core.clone().keep_standard_objects(),
    );
    tasks.spawn(
        "keep service addresses",
        OnError::Shutdown,
        core.clone().keep_service_addresses(),
    );
    let api: ApiRef = Arc::new(core.clone());
    if alone {
        rbac::reconcile::reconcile(&api, &lookup, &own_user()).await?;
    }
    // Not before: what was just written must hold for the first request, not a moment later.
    mirror(&rbac, store, tasks);
    mirror(core.dynamic(), store, tasks);
    let aggregation = aggregation(config, &api, &nodes, &lookup, pki, store, tasks);
    let others = aggregation.others().clone();
    for (definition, kind) in usage::kinds() {
        kinds.put(definition, vec![kind]);
    }
    let usage = Usage::new(nodes.clone(), lookup.clone(), config.clock.clone());
    let api: ApiRef = Arc::new(Whole {
        core: core.clone(),
        aggregation: aggregation.clone(),
        usage,
        authorizer: authorizer.clone(),
    });
    let outbound = Outbound::new(Dialer::new(api.clone(), nodes.clone()));
    let audit = Audit::start(
        &config.audit,
        outbound,
        config.clock.clone(),
        &config.metrics,
        tasks,
    );
    let address = SocketAddr::new(config.advertise, port).to_string();
    let departure = departing(tasks);
    let door = Door {
        api,
        authn: Authn::new(pki.clone(), bearers, config.clock.clone(), &config.metrics)?,
        authorizer,
        lookup,
        nodes,
        core: core.clone(),
        members: members(config, &address, Some(pki), store),
        discovery: Discovery::new(kinds.clone(), others.clone(), address.clone()),
        openapi: OpenApi::new(kinds.clone(), others),
        aggregation,
        kinds,
        health: keeping::health_of(config, vault, &departure),
        departure,
        audit: audit.map_err(StartError::Setting)?,
        counters: HttpMetrics::new(&config.metrics),
        metrics: config.metrics.clone(),
        tokens,
        clock: config.clock.clone(),
        cut_off: follow_contact(store, tasks),
        stop: tasks.cancelled(),
        address,
        forms: Arc::default(),
        intake: Intake::new(&config.metrics),
        waiting: Arc::new(Waiting::new()),
        fairness: fairness(config, store, tasks),
    };
    Ok((door, core))
}

/// Those who extend the API, looked after from now on.
fn aggregation(
    config: &ServerConfig,
    api: &ApiRef,
    nodes: &NodeLinks,
    lookup: &Arc<dyn Lookup>,
    pki: &Arc<Pki>,
    store: &Store,
    tasks: &Tasks,
) -> Arc<Aggregation> {
    let others: Arc<Others> = Arc::default();
    mirror(&others, store, tasks);
    let outbound = Outbound::new(Dialer::new(api.clone(), nodes.clone()));
    let made = Aggregation::new(
        others,
        outbound,
        lookup.clone(),
        pki.clone(),
        config.clock.clone(),
    );
    let made = Arc::new(made);
    let tend = made.clone().tend(api.clone(), store.leadership());
    tasks.spawn("tend aggregated servers", OnError::Shutdown, tend);
    made
}

/// Flow control by the objects that are stored, from now on.
fn fairness(config: &ServerConfig, store: &Store, tasks: &Tasks) -> Arc<Fairness> {
    let (clock, random) = (config.clock.clone(), config.random.clone());
    let made = Arc::new(Fairness::new(config.inflight, &config.metrics, clock, &*random));
    mirror(&made, store, tasks);
    tasks.spawn("lend seats", OnError::Shutdown, made.clone().tend());
    made
}

fn members(config: &ServerConfig, address: &str, pki: Option<&Arc<Pki>>, store: &Store) -> Members {
    Members {
        store: store.clone(),
        pki: pki.cloned(),
        clock: config.clock.clone(),
        here: Here {
            name: config.name.clone(),
            address: address.to_owned(),
        },
        settings: config.shared.clone(),
        data_dir: config.data_dir.clone(),
        gauges: Gauges::new(&config.metrics),
    }
}

/// What this server does while it leads. A cluster of this server `alone` was prepared when it started.
fn lead(config: &ServerConfig, door: &Arc<Door>, core: Core, store: &Store, alone: bool, tasks: &Tasks) {
    let (door, clock, own) = (door.clone(), config.clock.clone(), config.advertise);
    let (group, prepared) = (store.clone(), alone);
    while_leading(store, tasks, "API server", move |spell| {
        if !prepared {
            spell.spawn(
                "prepare the cluster",
                OnError::Log,
                prepare(core.clone(), door.clone()),
            );
        }
        let publish = endpoints::publish(core.clone(), group.clone(), own, prepared, clock.clone());
        spell.spawn("publish the API's addresses", OnError::Shutdown, publish);
        spell.spawn("settle quotas", OnError::Shutdown, core.clone().keep_quotas());
    });
}

/// Brings up to date what a newer version of this program wants every cluster to have.
async fn prepare(core: Core, door: Arc<Door>) {
    loop {
        let prepared = async {
            core.make_basics().await?;
            rbac::reconcile::reconcile(&door.api, &door.lookup, &own_user()).await
        };
        match prepared.await {
            Ok(()) => return,
            Err(error) => tracing::warn!(%error, "could not prepare the cluster, trying again"),
        }
        tokio::time::sleep(PREPARE_RETRY).await;
    }
}

/// Takes in what is stored, and from now on every change of it.
fn mirror<M: Mirror + 'static>(of: &Arc<M>, store: &Store, tasks: &Tasks) {
    let revision = mirror::load(&**of, store);
    let follow = mirror::follow(of.clone(), store.clone(), revision);
    tasks.spawn(format!("follow {}", M::OF), OnError::Shutdown, follow);
}

fn core_config(config: &ServerConfig, port: u16, nodes: NodeLinks, pki: &Pki) -> CoreConfig {
    CoreConfig {
        nodes,
        trust: Trust {
            clients: pki.client_ca.pem().to_owned(),
            front_proxies: pki.front_proxy_ca.pem().to_owned(),
            headers: RequestHeaders::default(),
        },
        service_cidr: config.service_cidr.clone(),
        node_ports: config.node_ports,
        admission: config.admission.clone(),
        event_ttl_seconds: config.event_ttl_seconds,
        clock: config.clock.clone(),
        random: config.random.clone(),
        ..CoreConfig::new(config.advertise, port)
    }
}

/// However the end of the tasks comes about, the server is not ready from then on.
fn departing(tasks: &Tasks) -> Arc<Departure> {
    let departure: Arc<Departure> = Arc::default();
    let (told, stop) = (departure.clone(), tasks.cancelled());
    tasks.spawn_graceful("say that the end is near", OnError::Log, async move {
        stop.cancelled().await;
        told.begin();
    });
    departure
}

fn background(config: &ServerConfig, pki: &Arc<Pki>, door: &Arc<Door>, store: Store, tasks: &Tasks) {
    let clock = config.clock.clone();
    let signer = Signer {
        api: door.api.clone(),
        store,
        pki: pki.clone(),
        authorizer: door.authorizer.clone(),
        clock: clock.clone(),
        user: own_user(),
    };
    let store = signer.store.clone();
    while_leading(&store, tasks, "signer", move |spell| {
        spell.spawn("sign certificates", OnError::Shutdown, signer.clone().run());
    });
    tasks.spawn(
        "forget unread answers",
        OnError::Shutdown,
        door.waiting.clone().tend(),
    );
}

#[cfg(test)]
mod tests;
