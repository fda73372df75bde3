//! Telling the API a pod's status, and the disk too.

use std::sync::Arc;

use api::request::PatchType;
use api::status::Status;
use client::Client;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use serde_json::{Value, json};

use super::conditions::PASSING;
use super::spec;
use crate::context::Context;
use crate::disk;

/// The patch that brings the API's status to `status`. Fields of a condition
/// that are no longer set are removed by name: a strategic patch merges.
pub fn patch_of(status: &PodStatus) -> Value {
    let mut value = serde_json::to_value(status).unwrap_or_default();
    let conditions = value.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten().filter_map(Value::as_object_mut) {
        for field in ["reason", "message", "lastProbeTime"] {
            condition.entry(field).or_insert(Value::Null);
        }
    }
    value
}

/// Sends a status of the pod that the API knows by `uid`.
///
/// # Errors
/// The API's refusal; 409 when the name belongs to another pod by now.
pub async fn send(client: &Client, pod: &Pod, uid: &str, mut status: Value) -> Result<(), Status> {
    drop_passed(pod, &mut status);
    let patch = json!({"metadata": {"uid": uid}, "status": status});
    let (namespace, name) = (spec::namespace(pod), spec::name(pod));
    client
        .patch::<Pod>(namespace, name, PatchType::Strategic, &patch, "status")
        .await
        .map(drop)
}

/// Has those conditions removed that come and go, where the API still shows them.
fn drop_passed(pod: &Pod, status: &mut Value) {
    let shown = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    let passed = shown
        .into_iter()
        .flatten()
        .filter(|c| PASSING.contains(&c.type_.as_str()));
    let Some(list) = status.get_mut("conditions").and_then(Value::as_array_mut) else {
        return;
    };
    for condition in passed {
        if !list.iter().any(|c| c["type"] == condition.type_.as_str()) {
            list.push(json!({"type": condition.type_, "$patch": "delete"}));
        }
    }
}

/// Keeps the pod with its status on disk, so that a node that starts without a
/// server knows what it was running. `durable` waits for the disk.
pub async fn keep(node: &Arc<Context>, pod: &Arc<Pod>, status: PodStatus, durable: bool) {
    let path = node.paths.checkpoint(spec::uid(pod));
    let mut kept = Pod::clone(pod);
    kept.status = Some(status);
    kept.metadata.managed_fields = None;
    let written = tokio::task::spawn_blocking(move || disk::write_json(&path, &kept, durable)).await;
    if let Ok(Err(error)) = written {
        tracing::warn!(pod = spec::name(pod), %error, "the pod's state was not kept on disk");
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodCondition;

    use super::*;

    #[test]
    fn conditions_that_passed_are_removed() {
        let pod: Pod = serde_json::from_value(json!({"status": {"conditions": [
            {"type": "PodResizePending", "status": "True"}, {"type": "Mine", "status": "True"}]}}))
        .unwrap();
        let mut status = json!({"conditions": [{"type": "Ready", "status": "True"}]});
        drop_passed(&pod, &mut status);
        assert_eq!(
            status["conditions"][1],
            json!({"type": "PodResizePending", "$patch": "delete"})
        );
        assert_eq!(status["conditions"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn what_a_condition_no_longer_says_is_removed() {
        let condition = PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            ..Default::default()
        };
        let status = PodStatus {
            conditions: Some(vec![condition]),
            ..Default::default()
        };
        let expected = json!({"conditions": [
            {"type": "Ready", "status": "True", "reason": null, "message": null, "lastProbeTime": null},
        ]});
        assert_eq!(patch_of(&status), expected);
    }
}
