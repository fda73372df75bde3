//! Whether a rollout moves: the condition `Progressing`, in Kubernetes' words.
//!
//! ```text
//! NewReplicaSetCreated ─▶ ReplicaSetUpdated ─▶ NewReplicaSetAvailable
//!            └───────────────┬──────┘
//!                            ▼ progressDeadlineSeconds without a move
//!                  ProgressDeadlineExceeded        DeploymentPaused ─▶ DeploymentResumed
//! ```

use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use serde_json::json;

use super::conditions::{is_complete, set};
use super::history;
use super::rollout::Rollout;
use crate::plan::{Plan, Write};

const PROGRESSING: &str = "Progressing";
const DONE: &str = "NewReplicaSetAvailable";
const PAUSED: &str = "DeploymentPaused";
const NOT_CREATED: &str = "ReplicaSetCreateError";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";
/// Kubernetes' default of `progressDeadlineSeconds`.
const DEADLINE_SECONDS: i32 = 600;

/// `progressDeadlineSeconds`.
pub(super) fn deadline_seconds(deployment: &Deployment) -> i32 {
    let spec = deployment.spec.as_ref();
    spec.and_then(|spec| spec.progress_deadline_seconds)
        .unwrap_or(DEADLINE_SECONDS)
}

fn deadline(deployment: &Deployment) -> Duration {
    Duration::from_secs(u64::try_from(deadline_seconds(deployment)).unwrap_or(0))
}

/// Whether the Deployment's status says that this ReplicaSet, and not one of an
/// earlier template, has used up the deadline.
pub(super) fn has_timed_out(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let Some(status) = &deployment.status else {
        return false;
    };
    let text = timed_out(&quoted(set));
    status.observed_generation >= deployment.metadata.generation
        && status
            .conditions
            .iter()
            .flatten()
            .any(|c| c.reason.as_deref() == Some(TIMED_OUT) && c.message.as_deref() == Some(text.as_str()))
}

fn quoted(set: &ReplicaSet) -> String {
    let name = set.metadata.name.as_deref().unwrap_or_default();
    format!("ReplicaSet {name:?}")
}

fn timed_out(subject: &str) -> String {
    format!("{subject} has timed out progressing.")
}

/// What the condition is to become: status, reason, message, and whether this is a move.
struct Step {
    status: &'static str,
    reason: &'static str,
    message: String,
    moved: bool,
}

impl Step {
    fn new(status: &'static str, reason: &'static str, message: impl Into<String>, moved: bool) -> Step {
        let message = message.into();
        Step {
            status,
            reason,
            message,
            moved,
        }
    }
}

/// Sets the condition, and asks to be called again when the deadline is over.
pub(super) fn set_progressing(
    rollout: &Rollout,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    plan: &mut Plan,
    now: Timestamp,
) {
    if deadline_seconds(rollout.deployment) == i32::MAX {
        conditions.retain(|c| c.type_ != PROGRESSING);
        return;
    }
    let found = conditions.iter().find(|c| c.type_ == PROGRESSING).cloned();
    let is_new = creates_set(rollout, plan);
    let Some(step) = step(rollout, before, after, found.as_ref(), is_new).or_else(|| {
        let found = found.as_ref()?;
        late(rollout, found, plan, now)
    }) else {
        return;
    };
    if step.moved && step.reason != DONE {
        plan.look_again(deadline(rollout.deployment) + Duration::from_secs(1));
    }
    set(
        conditions,
        PROGRESSING,
        step.status,
        step.reason,
        step.message,
        now,
        step.moved,
    );
}

/// Whether the plan makes the current template's ReplicaSet.
fn creates_set(rollout: &Rollout, plan: &Plan) -> bool {
    let creates =
        |write: &Write| matches!(write, Write::Create(target, _) if target.resource.plural == "replicasets");
    rollout.new.is_none() && plan.writes.iter().any(creates)
}

/// What has become of the rollout, if anything has.
fn step(
    rollout: &Rollout,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
    found: Option<&DeploymentCondition>,
    is_new: bool,
) -> Option<Step> {
    let deployment = rollout.deployment;
    let reason = found.and_then(|c| c.reason.as_deref());
    if deployment.spec.as_ref().and_then(|spec| spec.paused) == Some(true) {
        return Some(Step::new("Unknown", PAUSED, "Deployment is paused", false));
    }
    if reason == Some(PAUSED) {
        return Some(Step::new(
            "Unknown",
            "DeploymentResumed",
            "Deployment is resumed",
            true,
        ));
    }
    let subject = match &rollout.new {
        Some(set) => quoted(set),
        None => format!(
            "Deployment {:?}",
            deployment.metadata.name.as_deref().unwrap_or_default()
        ),
    };
    if is_new {
        let text = format!("Created new replica set {:?}", history::new_name(deployment));
        Some(Step::new("True", "NewReplicaSetCreated", text, true))
    } else if is_complete(deployment, after) {
        let text = format!("{subject} has successfully progressed.");
        Some(Step::new("True", DONE, text, reason != Some(DONE)))
    } else if found.is_none() || has_progressed(before, after) {
        let text = format!("{subject} is progressing.");
        Some(Step::new("True", "ReplicaSetUpdated", text, true))
    } else {
        None
    }
}

/// Says that the new ReplicaSet was refused.
pub(super) fn creation_failed(
    deployment: &Deployment,
    name: &str,
    why: &str,
    plan: &mut Plan,
    now: Timestamp,
) {
    let message = format!("Failed to create new replica set {name:?}: {why}");
    plan.tell(deployment, EventType::Warning, NOT_CREATED, message.clone());
    let before = deployment.status.clone().unwrap_or_default();
    let mut conditions = before.conditions.clone().unwrap_or_default();
    set(
        &mut conditions,
        PROGRESSING,
        "False",
        NOT_CREATED,
        message,
        now,
        false,
    );
    if before.conditions.as_ref() != Some(&conditions) && deadline_seconds(deployment) != i32::MAX {
        plan.write(Write::merge_status(
            deployment,
            json!({"status": {"conditions": conditions}}),
        ));
    }
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    after.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

/// A rollout that has not moved for the deadline has failed. One that was
/// complete has nothing to be late for, whatever becomes of its pods.
fn late(rollout: &Rollout, found: &DeploymentCondition, plan: &mut Plan, now: Timestamp) -> Option<Step> {
    let subject = match &rollout.new {
        Some(set) => quoted(set),
        None => return None,
    };
    match found.reason.as_deref() {
        Some(DONE) => return None,
        Some(TIMED_OUT) => {
            // What an earlier template's rollout came to; this one has its own time.
            let name = subject.trim_start_matches("ReplicaSet ");
            let another = found.message.as_deref() != Some(timed_out(&subject).as_str());
            let text = format!("Found new replica set {name}");
            return another.then(|| Step::new("True", "FoundNewReplicaSet", text, true));
        }
        _ => {}
    }
    let since = found.last_update_time.as_ref().map_or(now, |time| time.0);
    let stalled = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let limit = deadline(rollout.deployment);
    if stalled >= limit {
        return Some(Step::new("False", TIMED_OUT, timed_out(&subject), false));
    }
    plan.look_again(limit - stalled + Duration::from_secs(1));
    None
}
