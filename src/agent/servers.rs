//! The servers of the cluster, as a node knows them: from the API while there
//! is one, from `servers.json` when the node starts.
//!
//! A node speaks to one of them and moves over when that one is away
//! ([`HttpApi`]); but it keeps a connection to every one, so that each of them
//! reaches what runs here, whichever is asked for logs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base::{OnError, Tasks};
use client::{Cache, Client, HttpApi, Selectors};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::server::{LinkService, dial};

const FILE: &str = "servers.json";
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    servers: Vec<String>,
}

/// The servers that were there when somebody last looked.
pub fn remembered(data_dir: &Path) -> Vec<String> {
    let kept: Option<Kept> = disk::read_json(&data_dir.join(FILE));
    kept.filter(|kept| kept.version == VERSION)
        .map_or_else(Vec::new, |kept| kept.servers)
}

/// What follows the servers.
pub struct Follower {
    /// The way to them, which is told of each change.
    pub api: Arc<HttpApi>,
    /// For reading where they are.
    pub client: Client,
    /// The node's name.
    pub node_name: String,
    /// What answers on the connections.
    pub service: LinkService,
    /// The server that the node was told of; kept whatever the others say, as it may have its address from a
    /// router between.
    pub told: Option<String>,
    /// Addresses of a server in this process, which needs no connection.
    pub own: Vec<IpAddr>,
    /// Where they are remembered, if at all.
    pub data_dir: Option<PathBuf>,
    /// The tasks that hold the connections.
    pub tasks: Tasks,
}

impl Follower {
    /// Follows the servers until it is dropped.
    pub async fn run(self, known: Vec<String>) {
        let mut links: BTreeMap<String, Tasks> = BTreeMap::new();
        let mut servers = known;
        self.connect(&mut links, &servers);
        let selectors = Selectors::namespace("default").fields("metadata.name=kubernetes");
        let slices: Cache<EndpointSlice> = Cache::start(&self.client, selectors, &self.tasks);
        let mut changes = slices.changes();
        while let Some(change) = changes.recv().await {
            let found = urls(change.object());
            // Nobody can be asked any more once nobody is known.
            if found.is_empty() || found == servers {
                continue;
            }
            tracing::info!(servers = found.join(" "), "the servers are others now");
            servers = found;
            self.api.set_others(&self.with_told(&servers));
            self.keep(&servers);
            self.connect(&mut links, &servers);
        }
    }

    fn with_told(&self, servers: &[String]) -> Vec<String> {
        let told = self.told.iter().filter(|told| !servers.contains(told));
        servers.iter().chain(told).cloned().collect()
    }

    fn keep(&self, servers: &[String]) {
        let Some(dir) = &self.data_dir else { return };
        let kept = Kept {
            version: VERSION,
            servers: servers.to_vec(),
        };
        if let Err(error) = disk::write_json(&dir.join(FILE), &kept, true) {
            tracing::warn!(%error, "the servers could not be written down");
        }
    }

    /// Keeps a connection to every server, and to nobody else.
    fn connect(&self, links: &mut BTreeMap<String, Tasks>, servers: &[String]) {
        let is_own = |url: &String| self.own.iter().any(|own| is_at(url, *own));
        let wanted: Vec<String> = self
            .with_told(servers)
            .into_iter()
            .filter(|url| !is_own(url))
            .collect();
        links.retain(|url, link| {
            let stays = wanted.contains(url);
            if !stays {
                link.cancel();
            }
            stays
        });
        for url in wanted {
            if !links.contains_key(&url)
                && let Ok(api) = self.api.to(&url)
            {
                let (tasks, name, service) =
                    (self.tasks.child(), self.node_name.clone(), self.service.clone());
                let link = async move { dial::run(Arc::new(api), &name, service).await };
                tasks.spawn(format!("link to {url}"), OnError::Log, link);
                links.insert(url, tasks);
            }
        }
    }
}

fn is_at(url: &str, address: IpAddr) -> bool {
    let authority = url.strip_prefix("https://").unwrap_or(url);
    authority
        .parse::<std::net::SocketAddr>()
        .is_ok_and(|at| at.ip() == address)
}

/// The URLs of the servers that a slice names, in order.
fn urls(slice: &EndpointSlice) -> Vec<String> {
    let ports = slice.ports.as_deref().unwrap_or_default();
    let port = ports
        .iter()
        .find_map(|port| u16::try_from(port.port?).ok())
        .unwrap_or(6443);
    let addresses = slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses);
    let mut found: Vec<String> = addresses
        .filter_map(|address| address.parse::<IpAddr>().ok())
        .map(|ip| format!("https://{}", std::net::SocketAddr::new(ip, port)))
        .collect();
    found.sort();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn servers_are_read_from_the_slice_and_remembered() {
        let slice = json!({"metadata": {"name": "kubernetes"}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.2"]}, {"addresses": ["10.0.0.1"]}],
            "ports": [{"name": "https", "port": 7443}]});
        let urls = urls(&serde_json::from_value(slice).unwrap());
        assert_eq!(urls, ["https://10.0.0.1:7443", "https://10.0.0.2:7443"]);
        assert!(is_at(&urls[0], [10, 0, 0, 1].into()) && !is_at(&urls[0], [10, 0, 0, 2].into()));

        let dir = tempfile::tempdir().unwrap();
        assert!(remembered(dir.path()).is_empty());
        let kept = Kept {
            version: VERSION,
            servers: urls.clone(),
        };
        disk::write_json(&dir.path().join(FILE), &kept, false).unwrap();
        assert_eq!(remembered(dir.path()), urls);
    }
}
