//! Puts together what every request needs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use base::{OnError, Tasks};
use client::{ApiRef, Client, Recorder};
use store::Store;

use super::error::StartError;
use super::{access, checks};
use crate::aggregation::{Aggregation, Others};
use crate::audit::Audit;
use crate::authn::{Authn, ServiceAccounts};
use crate::config::ServerConfig;
use crate::discovery::Discovery;
use crate::fairness::Fairness;
use crate::http::{Departure, Door, GivenUp, Intake, Waiting, Watches};
use crate::leading::follow_contact;
use crate::lookup::{Lookup, StoreLookup};
use crate::members::{Gauges, Here, Members};
use crate::metrics::{HttpMetrics, Objects};
use crate::mirror::{self, Followers, Mirror};
use crate::nodes::{Dialer, NodeLinks};
use crate::openapi_routes::OpenApi;
use crate::outbound::Outbound;
use crate::own;
use crate::pki::Pki;
use crate::rbac::{self, Rbac};
use crate::registry::{Core, CoreConfig, REPAIRS};
use crate::usage::{self, Usage};
use crate::vault::Vault;
use crate::whole::Whole;

/// Puts together what every request needs. A cluster of this server `alone` is prepared here, before the
/// first request; one of several servers by whoever leads.
pub(super) async fn door(
    config: &ServerConfig,
    port: u16,
    pki: &Arc<Pki>,
    vault: &Vault,
    alone: bool,
    given_up: GivenUp,
    tasks: &Tasks,
) -> Result<(Door, Core), StartError> {
    let store: &Store = vault;
    let lookup: Arc<dyn Lookup> = Arc::new(StoreLookup(vault.clone()));
    let tokens = ServiceAccounts::new(
        pki.clone(),
        &config.issuer(),
        lookup.clone(),
        config.clock.clone(),
    );
    let tokens = Arc::new(tokens);
    tokens.uses().register(&config.metrics);
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
    let registered = Arc::<AtomicBool>::default();
    tasks.spawn(
        "keep standard objects",
        OnError::Shutdown,
        core.clone().keep_standard_objects(registered.clone()),
    );
    tasks.spawn(
        "note the use of tokens",
        OnError::Log,
        core.clone().note_uses(tokens.uses().clone()),
    );
    let api: ApiRef = Arc::new(core.clone());
    let own = Client::new(api.clone(), own::user());
    let repairs = Recorder::new(own, REPAIRS, "", config.clock.clone(), tasks);
    let addresses = Arc::<AtomicBool>::default();
    tasks.spawn(
        "keep service addresses",
        OnError::Shutdown,
        core.clone().keep_service_addresses(repairs, addresses.clone()),
    );
    if alone {
        rbac::reconcile::reconcile(&api, &lookup, &own::user()).await?;
    }
    // Not before: what was just written must hold for the first request, not a moment later.
    let mirrors = Mirrors {
        store,
        tasks,
        followers: Followers::default(),
    };
    mirrors.keep(&rbac);
    mirrors.keep(core.dynamic());
    let aggregation = aggregation(config, &api, &nodes, &lookup, pki, &mirrors);
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
    let cut_off = follow_contact(store, tasks);
    let health = checks::of_server(
        config,
        checks::Around {
            vault,
            lookup: &lookup,
            kinds: &kinds,
            others: &others,
            departure: &departure,
            cut_off: &cut_off,
            followers: &mirrors.followers,
            addresses: &addresses,
            registered: &registered,
        },
        tasks,
    );
    config.metrics.collect(Objects {
        store: store.clone(),
        kinds: kinds.clone(),
    });
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
        health,
        departure,
        audit: audit.map_err(StartError::Setting)?,
        counters: HttpMetrics::new(&config.metrics),
        metrics: config.metrics.clone(),
        tokens,
        clock: config.clock.clone(),
        cut_off,
        stop: tasks.cancelled(),
        address,
        forms: Arc::default(),
        intake: Intake::new(&config.metrics),
        waiting: Arc::new(Waiting::new(given_up.clone())),
        watches: Watches::new(config.watches_max, given_up.clone()),
        given_up,
        fairness: fairness(config, &mirrors),
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
    mirrors: &Mirrors<'_>,
) -> Arc<Aggregation> {
    let others: Arc<Others> = Arc::default();
    mirrors.keep(&others);
    let outbound = Outbound::new(Dialer::new(api.clone(), nodes.clone()));
    let made = Aggregation::new(
        others,
        outbound,
        lookup.clone(),
        pki.clone(),
        config.clock.clone(),
        &config.metrics,
    );
    let made = Arc::new(made);
    let tend = made.clone().tend(api.clone(), mirrors.store.leadership());
    mirrors
        .tasks
        .spawn("tend aggregated servers", OnError::Shutdown, tend);
    made
}

/// Flow control by the objects that are stored, from now on.
fn fairness(config: &ServerConfig, mirrors: &Mirrors<'_>) -> Arc<Fairness> {
    let (clock, random) = (config.clock.clone(), config.random.clone());
    let made = Arc::new(Fairness::new(config.inflight, &config.metrics, clock, &*random));
    mirrors.keep(&made);
    let lend = made.clone().tend();
    mirrors.tasks.spawn("lend seats", OnError::Shutdown, lend);
    made
}

pub(super) fn members(
    config: &ServerConfig,
    address: &str,
    pki: Option<&Arc<Pki>>,
    store: &Store,
) -> Members {
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

/// What is kept in memory of the store.
struct Mirrors<'a> {
    store: &'a Store,
    tasks: &'a Tasks,
    followers: Followers,
}

impl Mirrors<'_> {
    /// Takes in what is stored, and from now on every change of it.
    fn keep<M: Mirror + 'static>(&self, of: &Arc<M>) {
        let revision = mirror::load(&**of, self.store);
        let follow = mirror::follow(of.clone(), self.store.clone(), revision, self.followers.clone());
        let name = format!("follow {}", M::OF);
        self.tasks.spawn(name, OnError::Shutdown, follow);
    }
}

fn core_config(config: &ServerConfig, port: u16, nodes: NodeLinks, pki: &Arc<Pki>) -> CoreConfig {
    CoreConfig {
        nodes,
        keys: Some(pki.clone()),
        service_cidr: config.service_cidr.clone(),
        node_ports: config.node_ports,
        switches: config.switches.clone(),
        admission: config.admission.clone(),
        event_ttl_seconds: config.event_ttl_seconds,
        metrics: config.metrics.clone(),
        clock: config.clock.clone(),
        random: config.random.clone(),
        ..CoreConfig::new(config.advertise, port)
    }
}

/// However the end of the tasks comes about, the server is not ready from then on.
pub(super) fn departing(tasks: &Tasks) -> Arc<Departure> {
    let departure: Arc<Departure> = Arc::default();
    let (told, stop) = (departure.clone(), tasks.cancelled());
    tasks.spawn_graceful("say that the end is near", OnError::Log, async move {
        stop.cancelled().await;
        told.begin();
    });
    departure
}
