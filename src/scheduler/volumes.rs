//! Binding volumes before a pod is bound: what was decided is written, then it is waited until the claims
//! are bound.

use std::time::Duration;

use api::request::PatchType;
use api::storage::{self, BOUND_BY_CONTROLLER, SELECTED_NODE};
use client::{Cache, Client};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use crate::storage::Need;

/// How long volumes may take to be bound (Kubernetes' `bindTimeoutSeconds`).
const PATIENCE: Duration = Duration::from_secs(600);

/// Has everything done that a pod needs on a node.
///
/// # Errors
/// Why it cannot be, as the event has it.
pub(crate) async fn bind(
    client: &Client,
    claims: &Cache<PersistentVolumeClaim>,
    needs: &[Need],
    node: &str,
) -> Result<(), String> {
    for need in needs {
        let asked = match need {
            Need::Volume(claim, volume) => keep(client, claim, volume).await,
            Need::Provision(claim) => select(client, claim, node).await,
        };
        asked.map_err(|status| failure(&status.message))?;
    }
    let waited = tokio::time::timeout(PATIENCE, wait(claims, needs, node)).await;
    waited.unwrap_or_else(|_| Err(failure("context deadline exceeded")))
}

fn failure(why: &str) -> String {
    format!("running PreBind plugin \"VolumeBinding\": binding volumes: {why}")
}

fn name(meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> &str {
    meta.name.as_deref().unwrap_or_default()
}

/// Keeps a free volume for the claim; the binder does the rest.
async fn keep(
    client: &Client,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
) -> Result<(), api::status::Status> {
    if storage::is_kept_for(volume, claim) {
        return Ok(());
    }
    let meta = &claim.metadata;
    let patch = json!({
        "metadata": {"resourceVersion": volume.metadata.resource_version, "annotations": {BOUND_BY_CONTROLLER: "yes"}},
        "spec": {"claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": meta.namespace,
            "name": meta.name, "uid": meta.uid, "resourceVersion": meta.resource_version}},
    });
    client
        .patch::<PersistentVolume>("", name(&volume.metadata), PatchType::Merge, &patch, "")
        .await
        .map(drop)
}

/// Says for which node the claim's volume is to be made.
async fn select(
    client: &Client,
    claim: &PersistentVolumeClaim,
    node: &str,
) -> Result<(), api::status::Status> {
    if storage::note(&claim.metadata, SELECTED_NODE) == node {
        return Ok(());
    }
    let meta = &claim.metadata;
    let patch = json!({"metadata": {"uid": meta.uid, "annotations": {SELECTED_NODE: node}}});
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    client
        .patch::<PersistentVolumeClaim>(namespace, name(meta), PatchType::Merge, &patch, "")
        .await
        .map(drop)
}

/// Waits until every claim is bound, or one of them cannot be.
async fn wait(claims: &Cache<PersistentVolumeClaim>, needs: &[Need], node: &str) -> Result<(), String> {
    let mut changes = claims.changes();
    // What was written must be seen before its absence means anything.
    let mut selected = vec![false; needs.len()];
    loop {
        let mut open = 0;
        for (need, selected) in needs.iter().zip(&mut selected) {
            let meta = &need.claim().metadata;
            let now = claims.get(meta.namespace.as_deref().unwrap_or_default(), name(meta));
            let Some(now) = now.filter(|now| now.metadata.uid == meta.uid) else {
                return Err(failure(&format!(
                    "persistentvolumeclaim {:?} not found",
                    name(meta)
                )));
            };
            if storage::is_bound(&now) {
                continue;
            }
            open += 1;
            let here = storage::note(&now.metadata, SELECTED_NODE) == node;
            if *selected && !here {
                return Err(failure(&format!(
                    "selectedNode annotation reset for PVC {:?}",
                    name(meta)
                )));
            }
            *selected |= here;
        }
        if open == 0 {
            return Ok(());
        }
        if changes.recv().await.is_none() {
            return Err(failure("the scheduler ends"));
        }
    }
}
