//! Keeping the ways to other nodes' pods.

use base::{OnError, Tasks};
use client::Cache;
use k8s_openapi::api::core::v1::Node;

use super::object::peers;
use super::peer::Peer;
use crate::pods::PodNetwork;

/// Keeps the ways to other nodes' pods as the Node objects have it.
pub fn follow(nodes: Cache<Node>, network: PodNetwork, tasks: &Tasks) {
    tasks.spawn("routes to other nodes", OnError::Log, async move {
        let mut changes = nodes.changes();
        nodes.synced().await;
        let mut known: Option<Vec<Peer>> = None;
        loop {
            while changes.try_recv().is_ok() {}
            let now = peers(&nodes.list(), &network.config().node_name);
            if known.as_ref() != Some(&now) {
                // The network tries again by itself.
                if let Err(error) = network.connect(now.clone()).await {
                    tracing::warn!(%error, "not all pods of other nodes can be reached");
                }
                known = Some(now);
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
    });
}
