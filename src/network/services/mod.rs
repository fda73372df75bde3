//! Services: the plan carried out in the kernel and at guests' sockets.
//!
//! One task follows the catalog, plans what changed, tells the [`Balancer`]
//! and commits the difference to nftables. If the kernel disagrees, the whole
//! table is written anew: there is no other repair.

mod balancer;
mod carrier;
mod flows;
mod health;
mod kernel;
mod layout;
mod proxy;
mod rules;
mod table;
mod userspace;
mod withdrawal;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use base::{OnError, Tasks};
use client::{Cache, Change};
use k8s_openapi::api::core::v1::Node;
use tokio::sync::{mpsc, oneshot, watch};

use crate::catalog::{Catalog, ServiceKey};
use crate::config::{NetworkConfig, NetworkError};
use crate::plan::{Here, HostPort, health as health_of, host_ports, plan};
use carrier::Carrier;
use health::HealthChecks;
use table::{Delta, Owner, Table};

pub use balancer::Balancer;
pub use proxy::ServiceProxy;

/// How often to look whether somebody has flushed our table.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Changed Services that are handled in one step at most.
const ROUND_KEYS_MAX: usize = 4096;
/// The label by which a node says its zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// The node's service load balancer. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    catalog: Catalog,
    balancer: Arc<Balancer>,
    ready: watch::Receiver<bool>,
    pods: mpsc::UnboundedSender<PodPorts>,
    /// Each is answered when everything that changed before is carried out.
    questions: mpsc::UnboundedSender<oneshot::Sender<()>>,
}

/// A pod's uid and all of its host ports.
type PodPorts = (String, Vec<HostPort>);

impl Services {
    /// Starts following the catalog and this node's zone among `nodes`; returns
    /// at once. The kernel's table is replaced in one step when the catalog is
    /// complete, so that a predecessor's rules serve until then.
    ///
    /// The rules are those of the network namespace of the calling thread.
    pub fn start(
        catalog: &Catalog,
        nodes: &Cache<Node>,
        config: &NetworkConfig,
        tasks: &Tasks,
    ) -> Result<Services, NetworkError> {
        config.check()?;
        let balancer = Arc::new(Balancer::new(config.node_addresses()));
        let (ready, is_ready) = watch::channel(false);
        let (pods, told) = mpsc::unbounded_channel();
        let (questions, asked) = mpsc::unbounded_channel();
        let driver = Driver {
            changes: catalog.changes(),
            catalog: catalog.clone(),
            node_changes: nodes.changes(),
            told,
            asked,
            here: here(config),
            table: Table::default(),
            carrier: Carrier::open(config, &balancer)?,
            health: HealthChecks::default(),
            balancer: balancer.clone(),
            pods: HashMap::new(),
            ready,
        };
        tasks.spawn("services", OnError::Shutdown, driver.run());
        Ok(Services {
            catalog: catalog.clone(),
            balancer,
            ready: is_ready,
            pods,
            questions,
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

    /// Leads these ports of the node to a pod, and no others; with none the pod
    /// is forgotten. Takes effect shortly after.
    pub fn set_host_ports(&self, pod_uid: &str, ports: Vec<HostPort>) {
        // Nobody listens: the node is on its way down.
        let _ = self.pods.send((pod_uid.to_string(), ports));
    }
}

fn here(config: &NetworkConfig) -> Here {
    Here {
        node_name: config.node_name.clone(),
        zone: None,
        dns_ips: config.dns_ips(),
        families: config.service_families(),
    }
}

struct Driver {
    catalog: Catalog,
    changes: mpsc::UnboundedReceiver<ServiceKey>,
    node_changes: mpsc::UnboundedReceiver<Change<Node>>,
    told: mpsc::UnboundedReceiver<PodPorts>,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<()>>,
    here: Here,
    table: Table,
    carrier: Carrier,
    health: HealthChecks,
    balancer: Arc<Balancer>,
    pods: HashMap<String, Vec<HostPort>>,
    ready: watch::Sender<bool>,
}

impl Driver {
    async fn run(mut self) {
        self.catalog.synced().await;
        while let Ok(change) = self.node_changes.try_recv() {
            self.moved(&change);
        }
        let owners = self.everything();
        self.plan(owners);
        self.carrier.replace(&self.table).await;
        self.ready.send_replace(true);
        let mut check = tokio::time::interval(CHECK_INTERVAL);
        loop {
            let mut keys = Vec::new();
            tokio::select! {
                // In this order, a question is answered after the changes before it.
                biased;
                count = self.changes.recv_many(&mut keys, ROUND_KEYS_MAX) => match count {
                    0 => return,
                    _ => self.follow(keys.into_iter().map(Owner::Service).collect()).await,
                },
                Some(change) = self.node_changes.recv() => if self.moved(&change) {
                    let owners = self.everything();
                    self.follow(owners).await;
                },
                Some((uid, ports)) = self.told.recv() => {
                    match ports.is_empty() {
                        true => self.pods.remove(&uid),
                        false => self.pods.insert(uid.clone(), ports),
                    };
                    self.follow([Owner::Pod(uid)].into()).await;
                },
                Some(question) = self.asked.recv() => {
                    // Whoever no longer waits does not mind.
                    let _ = question.send(());
                }
                _ = check.tick() => self.carrier.check(&self.table).await,
            }
        }
    }

    fn everything(&self) -> BTreeSet<Owner> {
        let services = self
            .catalog
            .read()
            .keys()
            .cloned()
            .map(Owner::Service)
            .collect::<Vec<_>>();
        let pods = self.pods.keys().cloned().map(Owner::Pod);
        services.into_iter().chain(pods).collect()
    }

    /// Notes this node's zone; whether it is another one now.
    fn moved(&mut self, change: &Change<Node>) -> bool {
        let node = change.object();
        if node.metadata.name.as_ref() != Some(&self.here.node_name) {
            return false;
        }
        let labels = node.metadata.labels.as_ref();
        let zone = labels.and_then(|labels| labels.get(ZONE)).cloned();
        let old = std::mem::replace(&mut self.here.zone, zone);
        old != self.here.zone
    }

    /// Plans some owners anew and tells the guests' side; what changed is
    /// the kernel's to learn.
    fn plan(&mut self, mut owners: BTreeSet<Owner>) -> Vec<Delta> {
        owners.extend(self.table.waiting());
        let index = self.catalog.read();
        let mut plans = Vec::new();
        for owner in owners {
            let planned = match &owner {
                Owner::Pod(uid) => self.pods.get(uid).map(|ports| host_ports(ports)),
                Owner::Service(key) => {
                    let entry = index.entry(key);
                    self.health
                        .set(key, entry.and_then(|entry| health_of(entry, &self.here)));
                    entry.map(|entry| plan(entry, &self.here))
                }
            };
            plans.push((owner, planned.unwrap_or_default()));
        }
        drop(index);
        let deltas = self.table.update(plans);
        self.balancer.apply(&deltas);
        deltas
    }

    async fn follow(&mut self, owners: BTreeSet<Owner>) {
        let deltas = self.plan(owners);
        if deltas.is_empty() {
            return;
        }
        self.carrier.change(&deltas, &self.table).await;
        flows::forget_stale(&deltas, &self.table).await;
    }
}
