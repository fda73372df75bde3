//! Pods of other nodes: routes to them, through the network that connects the
//! nodes or through a vxlan of our own.
//!
//! ```text
//! Node objects ─▶ peers ─▶ wanted() ─▶ difference to the kernel ─▶ routes, neighbours, forwards
//!                   └─▶ network/peers, for a start without a server
//! ```
//!
//! A peer on a network that this machine is on too gets a plain route; any
//! other is reached by vxlan (UDP port 4789), whose device `cxID` learns
//! nothing: hardware address and identifier of a peer's device follow from its
//! pod range (`plan::station`), so that Node objects say all there is to know.

mod apply;
mod object;
pub(crate) mod plan;
mod record;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use api::cidr::Ranges;
use base::{OnError, Tasks};
use client::Cache;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};

use crate::pods::PodNetwork;

pub(crate) use apply::{Links, forget};
pub use object::ROUTING_ANNOTATION;
pub(crate) use record::{read, write};

/// How packets for pods of other nodes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodRouting {
    /// By routes where nodes have a network in common, elsewhere by vxlan.
    #[default]
    Auto,
    /// By routes only: whatever lies between nodes knows the way to pods.
    Routes,
    /// By vxlan only.
    Vxlan,
}

impl fmt::Display for PodRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PodRouting::Auto => "auto",
            PodRouting::Routes => "routes",
            PodRouting::Vxlan => "vxlan",
        })
    }
}

impl FromStr for PodRouting {
    type Err = String;

    fn from_str(text: &str) -> Result<PodRouting, String> {
        match text {
            "auto" => Ok(PodRouting::Auto),
            "routes" => Ok(PodRouting::Routes),
            "vxlan" => Ok(PodRouting::Vxlan),
            _ => Err(format!("{text:?} is not auto, routes or vxlan")),
        }
    }
}

/// Another node as far as the way to its pods depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its pods' addresses.
    pub ranges: Ranges,
    /// Where it can be reached itself, one per family at most.
    pub addresses: Vec<IpAddr>,
    /// How it wants packets to travel.
    pub routing: PodRouting,
}

/// Keeps the ways to other nodes' pods as the Node objects have it.
pub fn follow(nodes: Cache<Node>, network: PodNetwork, tasks: &Tasks) {
    tasks.spawn("routes to other nodes", OnError::Log, async move {
        let mut changes = nodes.changes();
        nodes.synced().await;
        let mut known: Option<Vec<Peer>> = None;
        loop {
            while changes.try_recv().is_ok() {}
            let peers = object::peers(&nodes.list(), &network.config().node_name);
            if known.as_ref() != Some(&peers) {
                // The network tries again by itself.
                if let Err(error) = network.connect(peers.clone()).await {
                    tracing::warn!(%error, "not all pods of other nodes can be reached");
                }
                known = Some(peers);
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
}
