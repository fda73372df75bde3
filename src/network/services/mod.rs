//! Services: the plan carried out in the kernel and at guests' sockets.
//!
//! One task follows the catalog, plans what changed, tells the [`Balancer`]
//! and commits the difference to nftables. If the kernel disagrees, the whole
//! table is written anew: there is no other repair.

mod balancer;
mod rules;
mod table;
mod withdrawal;

use std::collections::{BTreeSet, HashSet};
use std::io;
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use base::{Backoff, OnError, SystemRandom, Tasks};
use sys::conntrack::Flow;
use sys::nft::{Batch, Nft, NftError};
use tokio::sync::{mpsc, oneshot, watch};

use crate::catalog::{Catalog, ServiceKey};
use crate::config::{NetworkConfig, NetworkError};
use crate::names;
use crate::plan::{Frontend, Here, Protocol, plan};
use rules::Rules;
use table::{Delta, Table};

pub use balancer::Balancer;

/// How often to look whether somebody has flushed our table.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Changed Services that are handled in one step at most.
const ROUND_KEYS_MAX: usize = 4096;

/// The node's service load balancer. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    catalog: Catalog,
    /// Each is answered when everything that changed before is carried out.
    questions: mpsc::UnboundedSender<oneshot::Sender<()>>,
    balancer: Arc<Balancer>,
    ready: watch::Receiver<bool>,
}

impl Services {
    /// Starts following the catalog; returns at once. The kernel's table is
    /// replaced in one step when the catalog is complete, so that a
    /// predecessor's rules serve until then.
    ///
    /// The rules are those of the network namespace of the calling thread.
    pub fn start(catalog: &Catalog, config: &NetworkConfig, tasks: &Tasks) -> Result<Services, NetworkError> {
        config.check()?;
        let balancer = Arc::new(Balancer::new(config));
        let (ready, is_ready) = watch::channel(false);
        let (questions, asked) = mpsc::unbounded_channel();
        let driver = Driver {
            changes: catalog.changes(),
            asked,
            catalog: catalog.clone(),
            here: Here {
                node_name: config.node_name.clone(),
                dns_ip: config.dns_ip,
            },
            table: Table::default(),
            rules: Rules::new(names::services_table(&config.instance_id)),
            kernel: Some(Nft::open()?),
            balancer: balancer.clone(),
            ready,
        };
        tasks.spawn("services", OnError::Shutdown, driver.run());
        Ok(Services {
            catalog: catalog.clone(),
            questions,
            balancer,
            ready: is_ready,
        })
    }

    /// Waits until the first complete table is in the kernel.
    pub async fn ready(&self) {
        // An error means that the task ended: nothing to wait for any more.
        let _ = self.ready.clone().wait_for(|ready| *ready).await;
    }

    /// The same plan for sockets of Wasm guests.
    pub fn balancer(&self) -> Arc<Balancer> {
        self.balancer.clone()
    }
}

struct Driver {
    catalog: Catalog,
    changes: mpsc::UnboundedReceiver<ServiceKey>,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    here: Here,
    table: Table,
    rules: Rules,
    /// Away while a commit is under way, and lost if that panicked.
    kernel: Option<Nft>,
    balancer: Arc<Balancer>,
    ready: watch::Sender<bool>,
}

impl Driver {
    async fn run(mut self) {
        self.catalog.synced().await;
        let keys: BTreeSet<ServiceKey> = self.catalog.read().keys().cloned().collect();
        self.plan(keys);
        self.replace().await;
        self.ready.send_replace(true);
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            let mut keys = Vec::new();
            // In this order, a question is answered after the changes before it.
            tokio::select! {
                biased;
                count = self.changes.recv_many(&mut keys, ROUND_KEYS_MAX) => match count {
                    0 => return,
                    _ => self.follow(keys).await,
                },
                Some(question) = self.asked.recv() => {
                    // Whoever no longer waits does not mind.
                    let _ = question.send(());
                }
                _ = check.tick() => self.check().await,
            }
        }
    }

    /// Plans some Services anew and tells the guests' side; what changed is
    /// the kernel's to learn.
    fn plan(&mut self, mut keys: BTreeSet<ServiceKey>) -> Vec<Delta> {
        keys.extend(self.table.waiting());
        let index = self.catalog.read();
        let planned = |key: ServiceKey| {
            let plan = index
                .entry(&key)
                .map(|entry| plan(entry, &self.here))
                .unwrap_or_default();
            (key, plan)
        };
        let plans = keys.into_iter().map(planned).collect();
        drop(index);
        let deltas = self.table.update(plans);
        self.balancer.apply(&deltas);
        deltas
    }

    async fn follow(&mut self, keys: Vec<ServiceKey>) {
        let deltas = self.plan(keys.into_iter().collect());
        if deltas.is_empty() {
            return;
        }
        let batch = self.rules.change(&deltas);
        if let Err(error) = self.commit(batch).await {
            tracing::warn!(%error, "the kernel's service table is not what we thought; writing it anew");
            self.replace().await;
        }
        self.forget_departed(&deltas).await;
    }

    /// Clients of UDP Services stay with an endpoint for as long as they keep
    /// talking; one that went must be taken from them.
    async fn forget_departed(&self, deltas: &[Delta]) {
        let udp = deltas
            .iter()
            .filter(|delta| delta.frontend.protocol == Protocol::Udp);
        let gone: HashSet<(Frontend, SocketAddrV4)> = udp
            .flat_map(|delta| delta.departed().map(|backend| (delta.frontend, backend)))
            .collect();
        if gone.is_empty() {
            return;
        }
        let wanted = move |flow: &Flow| {
            let by = |address| {
                let frontend = Frontend {
                    address,
                    protocol: Protocol::Udp,
                    port: flow.destination.port(),
                };
                matches!(flow.server, std::net::SocketAddr::V4(server) if gone.contains(&(frontend, server)))
            };
            flow.protocol == Protocol::Udp.number()
                && (matches!(flow.destination.ip(), std::net::IpAddr::V4(ip) if by(Some(ip))) || by(None))
        };
        let done = tokio::task::spawn_blocking(move || sys::conntrack::forget(wanted)).await;
        if let Err(error) = done.map_err(io::Error::other).and_then(|result| result) {
            tracing::warn!(%error, "UDP clients may keep asking endpoints that are gone");
        }
    }

    /// Somebody may have flushed all rules: a firewall that was reloaded, say.
    async fn check(&mut self) {
        let table = self.rules.table().to_string();
        let found = self
            .with_kernel(move |nft| Ok(nft.tables(sys::nft::Family::Ip)?.contains(&table)))
            .await;
        if let Ok(false) = found {
            tracing::warn!("the kernel's service table has vanished; writing it anew");
            self.replace().await;
        }
    }

    /// Until it succeeds: without rules there are no Services.
    async fn replace(&mut self) {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        loop {
            let batch = self.rules.replace(&self.table.all());
            match self.commit(batch).await {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "cannot write the service table"),
            }
            tokio::time::sleep(backoff.next(&SystemRandom)).await;
        }
    }

    async fn commit(&mut self, batch: Batch) -> Result<(), NftError> {
        self.with_kernel(move |nft| nft.commit(&batch)).await
    }

    /// The kernel answers at once, but a whole table takes it a while: off
    /// the runtime's threads.
    async fn with_kernel<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Nft) -> Result<R, NftError> + Send + 'static,
    ) -> Result<R, NftError> {
        let mut nft = match self.kernel.take() {
            Some(nft) => nft,
            None => Nft::open()?,
        };
        let done = tokio::task::spawn_blocking(move || {
            let result = work(&mut nft);
            (nft, result)
        });
        let (nft, result) = done.await.map_err(io::Error::other)?;
        self.kernel = Some(nft);
        result
    }
}
