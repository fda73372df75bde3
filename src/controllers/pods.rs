//! Small questions about pods that several controllers ask.

use std::time::Duration;

use crate::plan::Write;
pub use api::pod::{condition, is_finished, is_ready, phase};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

/// The node the pod is bound to; empty when none.
pub fn node_of(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_default()
}

/// `None` when a ready pod has been so for `min_ready`; else how long that still takes.
pub fn available_in(pod: &Pod, min_ready: Duration, now: Timestamp) -> Option<Duration> {
    let since = condition(pod, "Ready").and_then(|c| c.last_transition_time.as_ref())?;
    let ready_for = Duration::try_from(now.duration_since(since.0)).unwrap_or_default();
    (ready_for < min_ready).then(|| min_ready - ready_for)
}

/// The annotation `controller.kubernetes.io/pod-deletion-cost`; 0 when absent or malformed.
pub fn deletion_cost(pod: &Pod) -> i32 {
    pod.metadata
        .annotations
        .as_ref()
        .and_then(|notes| notes.get("controller.kubernetes.io/pod-deletion-cost"))
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// How often the containers were restarted, the worst of them.
pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    status
        .and_then(|s| {
            s.container_statuses
                .iter()
                .flatten()
                .map(|c| c.restart_count)
                .max()
        })
        .unwrap_or(0)
}

/// `base-suffix`, with the base cut so that the whole fits a DNS label.
pub fn child_name(base: &str, suffix: &str) -> String {
    let room = 62usize.saturating_sub(suffix.len());
    let cut = base.char_indices().nth(room).map_or(base.len(), |(at, _)| at);
    format!("{}-{suffix}", &base[..cut])
}

/// Says in a pod's status why it goes (the condition `DisruptionTarget`), and that it has failed if it is `over`.
pub fn disrupted(pod: &Pod, reason: &str, message: &str, over: Option<&str>, now: Timestamp) -> Write {
    let before = pod.status.as_ref().and_then(|s| s.conditions.clone());
    let mut conditions: Vec<serde_json::Value> = before
        .iter()
        .flatten()
        .filter(|c| c.type_ != "DisruptionTarget")
        .map(|c| json!(c))
        .collect();
    conditions.push(json!({
        "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
        "lastTransitionTime": api::object::time_text(now),
    }));
    let mut status = json!({ "conditions": conditions });
    if let Some(phase) = over {
        status["phase"] = phase.into();
    }
    Write::merge_status(pod, json!({ "status": status }))
}
