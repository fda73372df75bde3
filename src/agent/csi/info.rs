//! What the cluster is told of a node's drivers: its CSINode, and labels and an annotation of its Node.

use std::collections::BTreeMap;

use api::request::PatchType;
use api::status::Status;
use client::Client;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::storage::v1::{CSINode, CSINodeDriver, CSINodeSpec, VolumeNodeResources};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::json;

use super::drivers::Driver;

/// How often somebody else may come in between.
const TRIES: usize = 5;

/// Says that a driver is here.
///
/// # Errors
/// Why the cluster cannot be told.
pub(super) async fn write(client: &Client, node: &str, driver: &Driver) -> Result<(), String> {
    let said = |status: Status| status.message;
    label(client, node, driver).await.map_err(said)?;
    let mut last = String::new();
    for _ in 0..TRIES {
        match with_drivers(client, node, |drivers| put(drivers, entry(driver))).await {
            Err(status) if status.is_conflict() => last = status.message,
            done => return done.map_err(said),
        }
    }
    Err(last)
}

/// Says that a driver is here no longer.
///
/// # Errors
/// Why the cluster cannot be told.
pub(super) async fn remove(client: &Client, node: &str, name: &str) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match with_drivers(client, node, |drivers| drivers.retain(|one| one.name != name)).await {
            Err(status) if status.is_conflict() => last = status.message,
            done => return done.map_err(|status| status.message),
        }
    }
    Err(last)
}

/// Changes the drivers of the CSINode, which is made if need be.
async fn with_drivers(
    client: &Client,
    node: &str,
    change: impl FnOnce(&mut Vec<CSINodeDriver>),
) -> Result<(), Status> {
    let found = client.find::<CSINode>("", node).await?;
    let mut new = match &found {
        Some(found) => found.clone(),
        None => CSINode {
            metadata: ObjectMeta {
                name: Some(node.to_owned()),
                owner_references: Some(vec![owner(client, node).await?]),
                ..ObjectMeta::default()
            },
            spec: CSINodeSpec::default(),
        },
    };
    change(&mut new.spec.drivers);
    match found {
        Some(found) if found == new => Ok(()),
        Some(_) => client.update(&new).await.map(drop),
        None => client.create(&new).await.map(drop),
    }
}

async fn owner(client: &Client, node: &str) -> Result<OwnerReference, Status> {
    let found = client.get::<Node>("", node).await?;
    Ok(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: node.to_owned(),
        uid: found.metadata.uid.unwrap_or_default(),
        ..OwnerReference::default()
    })
}

fn entry(driver: &Driver) -> CSINodeDriver {
    let facts = &driver.facts;
    let keys: Vec<String> = facts.topology.keys().cloned().collect();
    CSINodeDriver {
        name: driver.name.clone(),
        node_id: facts.node_id.clone(),
        topology_keys: Some(keys).filter(|keys| !keys.is_empty()),
        allocatable: facts
            .volumes_max
            .map(|max| VolumeNodeResources { count: Some(max) }),
    }
}

/// Puts a driver in place of what was said of it before.
fn put(drivers: &mut Vec<CSINodeDriver>, new: CSINodeDriver) {
    match drivers.iter_mut().find(|one| one.name == new.name) {
        Some(old) => *old = new,
        None => drivers.push(new),
    }
}

/// Labels the Node with what it reaches, and notes what the driver calls it.
async fn label(client: &Client, node: &str, driver: &Driver) -> Result<(), Status> {
    let found = client.get::<Node>("", node).await?;
    let facts = &driver.facts;
    let notes = found.metadata.annotations.as_ref();
    let ids = notes.and_then(|notes| serde_json::from_str(notes.get(api::csi::NODE_IDS)?).ok());
    let mut ids: BTreeMap<String, String> = ids.unwrap_or_default();
    ids.insert(driver.name.clone(), facts.node_id.clone());
    let ids = serde_json::to_string(&ids).unwrap_or_default();
    let labels = found.metadata.labels.as_ref();
    let labelled = |(key, value): (&String, &String)| labels.and_then(|all| all.get(key)) == Some(value);
    if facts.topology.iter().all(labelled) && notes.and_then(|all| all.get(api::csi::NODE_IDS)) == Some(&ids)
    {
        return Ok(());
    }
    let patch = json!({"metadata": {"labels": facts.topology, "annotations": {api::csi::NODE_IDS: ids}}});
    client
        .patch::<Node>("", node, PatchType::Merge, &patch, "")
        .await
        .map(drop)
}
