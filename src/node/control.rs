//! The control plane: API server, controllers, scheduler.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use api::cidr::Addresses;
use api::request::User;
use apiserver::admission::TolerationSeconds;
use apiserver::config::CONNECTIONS_MAX;
use apiserver::{ApiServer, Prepared, ServerConfig, StartError};
use base::{Clock, OnError, Tasks};
use client::{Cache, Client, Selectors};
use controllers::View;
use rustls::pki_types::ServerName;
use store::{MemberChange, Store, StoreError};
use tokio::sync::watch;

use super::cluster::Shared;
use crate::config::Config;

/// How long leadership may take to change hands when a server stops.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// Hands leadership to another member if this one leads others: they need not find out that it is gone.
pub(super) async fn step_down(store: &Store) {
    if !store.leadership().borrow().leads {
        return;
    }
    match tokio::time::timeout(HAND_OVER_MAX, hand_over(store)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::info!(%error, "leadership was not handed over"),
        Err(_) => tracing::info!("leadership was not handed over in time"),
    }
}

/// Hands over to the member that lacks least, if there is one, and waits until it has begun to lead.
async fn hand_over(store: &Store) -> Result<(), StoreError> {
    if let Some(heir) = store.status().await?.heir() {
        store.change_members(MemberChange::Lead(heir)).await?;
        let _ = store.leadership().wait_for(|now| !now.leads).await;
        tracing::info!(to = format_args!("{heir:x}"), "leadership was handed over");
    }
    Ok(())
}

/// Listens and opens the keys; the store comes next.
pub(super) async fn prepare_server(config: &Config, node_ip: Addresses) -> anyhow::Result<Prepared> {
    let port = config.listen.port;
    let listen: Vec<SocketAddr> = match config.listen.address {
        Some(address) => vec![(address, port).into()],
        None => vec![
            (node_ip.primary(), port).into(),
            (Ipv4Addr::LOCALHOST, port).into(),
        ],
    };
    let mut settings = ServerConfig::new(&config.data_dir);
    settings.listen = listen;
    settings.advertise = config.advertise_address.unwrap_or(node_ip.primary());
    settings.service_cidr = config.service_cidr.to_string();
    settings.cluster_domain.clone_from(&config.cluster_domain);
    settings.admission.toleration = TolerationSeconds {
        not_ready: config.not_ready_toleration_seconds.into(),
        unreachable: config.unreachable_toleration_seconds.into(),
    };
    settings.admission.pod_security = config.safety.pod_security.clone();
    settings.switches = config.switches.clone();
    settings.audit = config.safety.audit.clone();
    settings.encryption = config.safety.encryption.clone();
    settings.authentication = config.authentication.clone();
    settings.authorization = config.authorization.clone();
    settings.inflight = config.inflight;
    settings.watches_max = config.watches_max;
    settings.name.clone_from(&config.node_name);
    settings.witness = config.witness;
    settings.shared = serde_json::to_value(Shared::of(config))?;
    settings.connections_max = connections();
    settings.extra_sans = vec![config.node_name.clone()];
    settings
        .extra_sans
        .extend(node_ip.iter().map(|ip| ip.to_string()));
    for name in &config.tls_sans {
        ServerName::try_from(name.as_str())
            .map_err(|_| anyhow!("tls-san {name:?} is neither an address nor a name of DNS"))?;
        settings.extra_sans.push(name.clone());
    }
    Prepared::new(settings).await.map_err(|error| match error {
        StartError::Listen(why) if why.kind() == std::io::ErrorKind::AddrInUse => {
            anyhow!("{why}: stop what listens there, or choose another port with --listen")
        }
        other => anyhow::Error::new(other).context("cannot start the API server"),
    })
}

/// How many connections there may be: half of the files that this process may open are for other things.
fn connections() -> usize {
    let files = sys::process::raise_open_files().unwrap_or(1024);
    usize::try_from(files / 2).map_or(CONNECTIONS_MAX, |half| half.min(CONNECTIONS_MAX))
}

/// How much of its log a witness holds in memory: it reads the rest back if it has to hand it over.
const WITNESS_MEMORY_BYTES: usize = 64 << 10;
/// A witness lets go of its log in portions of this size.
const WITNESS_SEGMENT_BYTES: u64 = 1 << 20;

/// The niceness of ordinary threads that go before all others of the node.
const FIRST: i32 = -15;

/// Nothing depends on what the kernel thinks of a thread: an ordinary user's is an ordinary one.
fn prefer(what: &str, asked: std::io::Result<()>) {
    if let Err(error) = asked {
        tracing::debug!(what, %error, "the kernel leaves their precedence as it is");
    }
}

/// Opens the store of a server: of the cluster given, or one that begins a cluster.
pub(super) async fn open_store(
    config: &Config,
    prepared: &Prepared,
    cluster: Option<u64>,
) -> anyhow::Result<Store> {
    let mut settings = store::StoreConfig::new(&config.data_dir);
    settings.join = cluster;
    settings.keep_history = Some(config.compaction_interval);
    settings.quota_bytes = config.quota_bytes;
    settings.dialer = Some(prepared.dialer());
    if config.witness {
        settings.witness = true;
        settings.keep_log_bytes = WITNESS_MEMORY_BYTES;
        settings.segment_bytes = WITNESS_SEGMENT_BYTES;
        settings.flush_log_bytes = WITNESS_SEGMENT_BYTES;
    }
    settings.here = store::Peer {
        name: config.node_name.clone(),
        address: prepared.address().to_string(),
        ..store::Peer::default()
    };
    // On a busy processor writes would wait for a tick of the kernel, or for RocksDB, each time a thread is woken.
    settings.at_open = || prefer("ordinary threads", sys::process::set_nice(0));
    settings.at_work = || {
        // Control groups may have no real time to give.
        let asked = sys::process::set_real_time().or_else(|_| sys::process::set_nice(FIRST));
        prefer("the store's threads", asked);
    };
    Store::open(settings)
        .await
        .with_context(|| format!("cannot open the store in {}", config.data_dir.display()))
}

/// The certificates by which pods know the API, as the cluster's keys have them.
fn root_ca(server: &ApiServer, tasks: &Tasks) -> watch::Receiver<String> {
    let mut keys = server.pki().changes();
    let now = keys.borrow_and_update().serving_ca.bundle().to_owned();
    let (told, root_ca) = watch::channel(now);
    tasks.spawn("tell pods whom to trust", OnError::Shutdown, async move {
        while keys.changed().await.is_ok() {
            told.send_replace(keys.borrow_and_update().serving_ca.bundle().to_owned());
        }
    });
    root_ca
}

/// Keeps the caches of controllers and scheduler, and starts both whenever this server leads: a new leader
/// begins with what it knows.
pub(super) fn start_controllers(config: &Config, server: &ApiServer, clock: Arc<dyn Clock>, tasks: &Tasks) {
    let client = Client::new(
        server.api(),
        User::new(
            "system:kube-controller-manager",
            &["system:masters", "system:authenticated"],
        ),
    )
    .with_manager("kube-controller-manager");
    let view = View::start(&client, tasks);
    let scheduler = client
        .with_user(User::new("system:kube-scheduler", &["system:authenticated"]))
        .with_manager("kube-scheduler");
    let settings = controllers::Settings {
        node_shares: config.node_shares(),
        balancer_pools: config.load_balancer_pools.clone(),
        node_grace: config.node_monitor_grace_period,
        eviction_pace: config.eviction_pace,
        root_ca: root_ca(server, tasks),
        queues: server.queues(),
    };
    server.while_leading(tasks, "controllers and scheduler", move |spell| {
        controllers::start(
            client.clone(),
            view.clone(),
            clock.clone(),
            spell,
            settings.clone(),
        );
        let (nodes, pods) = (view.nodes.clone(), view.pods.clone());
        let drivers = scheduler::Drivers {
            nodes: Cache::start(&scheduler, Selectors::all(), spell),
            drivers: view.drivers.clone(),
            capacities: Cache::start(&scheduler, Selectors::all(), spell),
        };
        let (claims, volumes, classes) = (view.claims.clone(), view.volumes.clone(), view.classes.clone());
        let storage = scheduler::Storage::new(claims, volumes, classes, drivers);
        scheduler::start(scheduler.clone(), nodes, pods, storage, clock.clone(), spell);
    });
}
