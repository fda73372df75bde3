//! What a Deployment says of itself.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use super::{Rollout, available, rolling, wanted};
use crate::plan::{Plan, Write};

/// Plans the write of the status, if it differs from what is there.
pub(super) fn update(rollout: &Rollout, plan: &mut Plan, now: Timestamp) {
    let deployment = rollout.deployment;
    let before = deployment.status.clone().unwrap_or_default();
    let mut after = counts(rollout, &before);
    let mut conditions = before.conditions.clone().unwrap_or_default();
    set_available(deployment, &after, &mut conditions, now);
    set_progressing(rollout, &before, &after, &mut conditions, plan, now);
    after.conditions = Some(conditions);
    if same(&before, &after) {
        return;
    }
    // A patch of the status alone: the rest of this copy may be older than what earlier writes of the plan made.
    plan.write(Write::merge_status(deployment, json!({"status": after})));
}

fn counts(rollout: &Rollout, before: &DeploymentStatus) -> DeploymentStatus {
    let sum = |f: fn(&k8s_openapi::api::apps::v1::ReplicaSetStatus) -> i32| -> i32 {
        rollout.all().filter_map(|set| set.status.as_ref()).map(f).sum()
    };
    let replicas = sum(|s| s.replicas);
    let ready = sum(|s| s.ready_replicas.unwrap_or(0));
    let is_available: i32 = rollout.all().map(|set| available(set)).sum();
    let updated = rollout
        .new
        .as_ref()
        .and_then(|set| set.status.as_ref())
        .map_or(0, |s| s.replicas);
    let asked = rollout.total();
    DeploymentStatus {
        observed_generation: rollout.deployment.metadata.generation,
        replicas: Some(replicas),
        updated_replicas: Some(updated),
        ready_replicas: Some(ready),
        available_replicas: Some(is_available),
        unavailable_replicas: Some((asked - is_available).max(0)),
        terminating_replicas: Some(sum(|s| s.terminating_replicas.unwrap_or(0))),
        collision_count: before.collision_count,
        conditions: None,
    }
}

fn set_available(
    deployment: &Deployment,
    after: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) {
    let (_, missing) = rolling::bounds(deployment);
    let enough = after.available_replicas.unwrap_or(0) >= wanted(deployment) - missing;
    let (status, reason, message) = if enough {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    set(
        conditions,
        "Available",
        status,
        reason,
        message.to_owned(),
        now,
        false,
    );
}

fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = wanted(deployment);
    status.updated_replicas == Some(wanted)
        && status.replicas == Some(wanted)
        && status.available_replicas == Some(wanted)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_progressed(before: &DeploymentStatus, after: &DeploymentStatus) -> bool {
    let old = |s: &DeploymentStatus| s.replicas.unwrap_or(0) - s.updated_replicas.unwrap_or(0);
    after.updated_replicas.unwrap_or(0) > before.updated_replicas.unwrap_or(0)
        || old(after) < old(before)
        || after.ready_replicas.unwrap_or(0) > before.ready_replicas.unwrap_or(0)
        || after.available_replicas.unwrap_or(0) > before.available_replicas.unwrap_or(0)
}

fn set_progressing(
    rollout: &Rollout,
    before: &DeploymentStatus,
    after: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    plan: &mut Plan,
    now: Timestamp,
) {
    let deployment = rollout.deployment;
    let spec = deployment.spec.clone().unwrap_or_default();
    let deadline = spec.progress_deadline_seconds.unwrap_or(600);
    if deadline == i32::MAX {
        conditions.retain(|c| c.type_ != "Progressing");
        return;
    }
    let found = conditions.iter().find(|c| c.type_ == "Progressing").cloned();
    if spec.paused == Some(true) {
        let text = "Deployment is paused".to_owned();
        return set(
            conditions,
            "Progressing",
            "Unknown",
            "DeploymentPaused",
            text,
            now,
            false,
        );
    }
    if found.as_ref().and_then(|c| c.reason.as_deref()) == Some("DeploymentPaused") {
        let text = "Deployment is resumed".to_owned();
        return set(
            conditions,
            "Progressing",
            "Unknown",
            "DeploymentResumed",
            text,
            now,
            true,
        );
    }
    let subject = match &rollout.new {
        Some(set) => format!(
            "ReplicaSet {:?}",
            set.metadata.name.as_deref().unwrap_or_default()
        ),
        None => format!(
            "Deployment {:?}",
            deployment.metadata.name.as_deref().unwrap_or_default()
        ),
    };
    let was_done = found.as_ref().and_then(|c| c.reason.as_deref()) == Some("NewReplicaSetAvailable");
    if is_complete(deployment, after) {
        let text = format!("{subject} has successfully progressed.");
        set(
            conditions,
            "Progressing",
            "True",
            "NewReplicaSetAvailable",
            text,
            now,
            !was_done,
        );
    } else if found.is_none() || has_progressed(before, after) || (was_done && rollout.old_pods_left) {
        let text = format!("{subject} is progressing.");
        set(
            conditions,
            "Progressing",
            "True",
            "ReplicaSetUpdated",
            text,
            now,
            true,
        );
        plan.look_again(Duration::from_secs(u64::try_from(deadline).unwrap_or(0) + 1));
    } else if let Some(condition) = found.filter(|_| !was_done) {
        check_deadline(&condition, deadline, &subject, conditions, plan, now);
    }
}

/// A rollout that has not moved for `deadline` seconds has failed.
fn check_deadline(
    condition: &DeploymentCondition,
    deadline: i32,
    subject: &str,
    conditions: &mut Vec<DeploymentCondition>,
    plan: &mut Plan,
    now: Timestamp,
) {
    if condition.reason.as_deref() == Some("ProgressDeadlineExceeded") {
        return;
    }
    let since = condition.last_update_time.as_ref().map_or(now, |t| t.0);
    let stalled = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    let limit = Duration::from_secs(u64::try_from(deadline).unwrap_or(0));
    if stalled >= limit {
        let text = format!("{subject} has timed out progressing.");
        set(
            conditions,
            "Progressing",
            "False",
            "ProgressDeadlineExceeded",
            text,
            now,
            false,
        );
    } else {
        plan.look_again(limit - stalled + Duration::from_secs(1));
    }
}

/// Sets a condition; its transition time moves only with its status, its
/// update time also when `touch` says that something happened.
fn set(
    conditions: &mut Vec<DeploymentCondition>,
    kind: &str,
    status: &str,
    reason: &str,
    message: String,
    now: Timestamp,
    touch: bool,
) {
    let now = Time(now);
    let old = conditions.iter().find(|c| c.type_ == kind).cloned();
    let same_status = old.as_ref().is_some_and(|c| c.status == status);
    let same_reason = old.as_ref().is_some_and(|c| c.reason.as_deref() == Some(reason));
    if same_status && same_reason && !touch {
        return;
    }
    let transition = old.filter(|_| same_status).and_then(|c| c.last_transition_time);
    conditions.retain(|c| c.type_ != kind);
    conditions.push(DeploymentCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message),
        last_update_time: Some(now.clone()),
        last_transition_time: Some(transition.unwrap_or(now)),
    });
}

/// Whether a reader would see no difference: absent and zero counts are the same.
fn same(a: &DeploymentStatus, b: &DeploymentStatus) -> bool {
    let counts = |s: &DeploymentStatus| {
        [
            s.replicas.unwrap_or(0),
            s.updated_replicas.unwrap_or(0),
            s.ready_replicas.unwrap_or(0),
            s.available_replicas.unwrap_or(0),
            s.unavailable_replicas.unwrap_or(0),
            s.terminating_replicas.unwrap_or(0),
        ]
    };
    counts(a) == counts(b)
        && a.observed_generation.unwrap_or(0) == b.observed_generation.unwrap_or(0)
        && a.conditions.clone().unwrap_or_default() == b.conditions.clone().unwrap_or_default()
}
