//! Making the Node known, and learning its range of pod addresses.

use std::time::Duration;

use api::request::PatchType;
use api::status::Status;
use client::Client;
use k8s_openapi::api::core::v1::Node;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::machine::Machine;
use super::object;
use crate::config::AgentConfig;
use crate::disk;
use crate::paths::Paths;

/// Pauses between attempts while the server is away.
const RETRY: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);
/// How often the Node is looked at until it has its range, which takes a
/// controller a moment and happens once in a node's life.
const RANGE_EVERY: Duration = Duration::from_millis(50);
const RANGE_EVERY_MAX: Duration = Duration::from_secs(2);

/// What a node must know to start without a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// Version of this file's form.
    pub version: u32,
    /// The node's name.
    pub name: String,
    /// Its ranges of pod addresses, with a comma between them.
    pub pod_cidr: String,
}

/// What an earlier run has kept, if it was for this node.
pub fn kept(paths: &Paths, name: &str) -> Option<Kept> {
    disk::read_json::<Kept>(&paths.node()).filter(|kept| kept.version == 1 && kept.name == name)
}

/// Registers the node, for as long as it takes, and returns its range of pod addresses.
pub async fn register(config: &AgentConfig, machine: &Machine, client: &Client, paths: &Paths) -> String {
    let mut pause = RETRY;
    loop {
        match attempt(config, machine, client).await {
            Ok(cidr) => {
                let kept = Kept {
                    version: 1,
                    name: config.node_name.clone(),
                    pod_cidr: cidr.clone(),
                };
                if let Err(error) = disk::write_json(&paths.node(), &kept, true) {
                    tracing::warn!(%error, "the node's range was not kept: it will not start without a server");
                }
                return cidr;
            }
            Err(status) => {
                tracing::info!(%status, "the node is not registered yet, trying again in {pause:?}");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MAX);
            }
        }
    }
}

/// The node's ranges, with a comma between them.
fn ranges_of(node: &Node) -> Option<String> {
    let spec = node.spec.as_ref()?;
    let listed = spec.pod_cidrs.as_ref().map(|ranges| ranges.join(","));
    listed
        .or(spec.pod_cidr.clone())
        .filter(|ranges| !ranges.is_empty())
}

async fn attempt(config: &AgentConfig, machine: &Machine, client: &Client) -> Result<String, Status> {
    let name = &config.node_name;
    let mut node = match client.create(&object::node(config, machine)).await {
        Ok(node) => node,
        Err(status) if status.is_already_exists() => {
            let patch = json!({"metadata": {
                "labels": object::labels(config, machine),
                "annotations": object::annotations(config),
            }});
            client
                .patch::<Node>("", name, PatchType::Strategic, &patch, "")
                .await?
        }
        Err(status) => return Err(status),
    };
    let mut pause = RANGE_EVERY;
    loop {
        if let Some(cidr) = ranges_of(&node).or_else(|| config.node_cidr.clone()) {
            return Ok(cidr);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RANGE_EVERY_MAX);
        node = client.get::<Node>("", name).await?;
    }
}
