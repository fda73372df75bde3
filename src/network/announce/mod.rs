//! Load balancers' addresses on the local network: of the nodes that may have
//! an address, each knows which one it is, and that one says "it is me" to
//! whoever asks by ARP or neighbour discovery. The address is on no device:
//! packets to it are translated before they are routed.

mod choice;
mod frames;
mod responder;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use base::{OnError, Tasks};
use client::Cache;
use k8s_openapi::api::core::v1::Node;
use tokio::sync::watch;

use crate::catalog::{Catalog, Entry, ServiceKey, is_ready};
use crate::config::{NetworkConfig, NetworkError};
use crate::plan::{balanced_ips, is_local_outside};

/// Changes that are looked at together.
const ROUND_KEYS_MAX: usize = 4096;

/// What is to be decided about one Service.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    addresses: Vec<IpAddr>,
    /// Only nodes with a ready endpoint of it may have them.
    only: Option<BTreeSet<String>>,
}

/// Starts announcing what this node is chosen for, in the network namespace of
/// the calling thread, on the device that has the node's address.
///
/// # Errors
/// When raw sockets are not to be had.
pub fn start(
    catalog: &Catalog,
    nodes: &Cache<Node>,
    config: &NetworkConfig,
    tasks: &Tasks,
) -> Result<(), NetworkError> {
    let (mine, told) = watch::channel(BTreeSet::new());
    responder::start(config, told, tasks)?;
    let announcer = Announcer {
        catalog: catalog.clone(),
        nodes: nodes.clone(),
        node_name: config.node_name.clone(),
        claims: BTreeMap::new(),
        mine,
    };
    tasks.spawn("load balancer addresses", OnError::Log, announcer.run());
    Ok(())
}

struct Announcer {
    catalog: Catalog,
    nodes: Cache<Node>,
    node_name: String,
    claims: BTreeMap<ServiceKey, Claim>,
    mine: watch::Sender<BTreeSet<IpAddr>>,
}

impl Announcer {
    async fn run(mut self) {
        let (mut changes, mut moves) = (self.catalog.changes(), self.nodes.changes());
        self.catalog.synced().await;
        self.nodes.filled().await;
        let all: Vec<ServiceKey> = self.catalog.read().keys().cloned().collect();
        self.note(all);
        loop {
            self.choose();
            let mut keys = Vec::new();
            loop {
                tokio::select! {
                    count = changes.recv_many(&mut keys, ROUND_KEYS_MAX) => {
                        if count == 0 {
                            return;
                        }
                        if self.note(std::mem::take(&mut keys)) {
                            break;
                        }
                    }
                    Some(_) = moves.recv() => break,
                }
            }
        }
    }

    /// Looks at some Services again; whether anything about them is new.
    fn note(&mut self, keys: Vec<ServiceKey>) -> bool {
        let index = self.catalog.read();
        let mut is_new = false;
        for key in keys {
            let claim = index.entry(&key).and_then(claim);
            let old = match claim.clone() {
                Some(claim) => self.claims.insert(key, claim),
                None => self.claims.remove(&key),
            };
            is_new |= old != claim;
        }
        is_new
    }

    fn choose(&self) {
        if self.claims.is_empty() && self.mine.borrow().is_empty() {
            return;
        }
        let nodes = self.nodes.list();
        let able: Vec<&str> = nodes.iter().filter_map(|node| choice::able(node)).collect();
        let mut mine = BTreeSet::new();
        for claim in self.claims.values() {
            let may = |name: &&str| claim.only.as_ref().is_none_or(|only| only.contains(*name));
            for address in &claim.addresses {
                if choice::choose(*address, able.iter().copied().filter(may)) == Some(&self.node_name) {
                    mine.insert(*address);
                }
            }
        }
        self.mine
            .send_if_modified(|old| std::mem::replace(old, mine.clone()) != mine);
    }
}

fn claim(entry: &Entry) -> Option<Claim> {
    let service = entry.service.as_deref()?;
    let addresses = balanced_ips(service);
    if addresses.is_empty() {
        return None;
    }
    let names = || {
        let ready = entry.endpoints().filter(|(_, endpoint)| is_ready(endpoint));
        ready
            .filter_map(|(_, endpoint)| endpoint.node_name.clone())
            .collect()
    };
    let only = is_local_outside(service).then(names);
    Some(Claim { addresses, only })
}
