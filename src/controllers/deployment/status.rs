//! What a Deployment says of itself.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet};
use serde_json::json;

use super::conditions::set;
use super::rollout::{Rollout, available, bounds, wanted};
use super::{progress, rollback};
use crate::plan::{Plan, Write};

const REPLICA_FAILURE: &str = "ReplicaFailure";

/// Plans the write of the status, if it differs from what is there.
pub(super) fn update(rollout: &Rollout, plan: &mut Plan, now: Timestamp) {
    let deployment = rollout.deployment;
    let before = deployment.status.clone().unwrap_or_default();
    let mut after = counts(rollout, &before);
    let mut conditions = before.conditions.clone().unwrap_or_default();
    set_available(deployment, &after, &mut conditions, now);
    progress::set_progressing(rollout, &before, &after, &mut conditions, plan, now);
    set_failure(rollout, &mut conditions);
    set_rolled_back(rollout, &mut conditions, plan, now);
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
        collision_count: collisions(rollout, before),
        conditions: None,
    }
}

/// How often the name of a new ReplicaSet was taken; counting once more makes another name.
fn collisions(rollout: &Rollout, before: &DeploymentStatus) -> Option<i32> {
    let paused = rollout.deployment.spec.as_ref().and_then(|s| s.paused);
    if rollout.collides && paused != Some(true) {
        return Some(before.collision_count.unwrap_or(0) + 1);
    }
    before.collision_count
}

/// What keeps a ReplicaSet from making or removing its pods is the Deployment's trouble too.
fn set_failure(rollout: &Rollout, conditions: &mut Vec<DeploymentCondition>) {
    let failure = |set: &Arc<ReplicaSet>| {
        let mut all = set.status.as_ref()?.conditions.iter().flatten();
        all.find(|c| c.type_ == REPLICA_FAILURE).cloned()
    };
    let found = rollout.new.iter().chain(&rollout.old).find_map(failure);
    conditions.retain(|c| c.type_ != REPLICA_FAILURE);
    conditions.extend(found.map(|c| DeploymentCondition {
        type_: c.type_,
        status: c.status,
        reason: c.reason,
        message: c.message,
        last_update_time: c.last_transition_time.clone(),
        last_transition_time: c.last_transition_time,
    }));
}

fn set_rolled_back(
    rollout: &Rollout,
    conditions: &mut Vec<DeploymentCondition>,
    plan: &mut Plan,
    now: Timestamp,
) {
    match rollback::verdict(rollout) {
        None => conditions.retain(|c| c.type_ != rollback::CONDITION),
        Some((status, reason, message)) => {
            if status == "False" {
                rollback::tell_not_found(rollout.deployment, conditions, plan);
            }
            set(
                conditions,
                rollback::CONDITION,
                status,
                reason,
                message,
                now,
                false,
            );
        }
    }
}

fn set_available(
    deployment: &Deployment,
    after: &DeploymentStatus,
    conditions: &mut Vec<DeploymentCondition>,
    now: Timestamp,
) {
    let (_, missing) = bounds(deployment);
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
            s.collision_count.unwrap_or(0),
        ]
    };
    counts(a) == counts(b)
        && a.observed_generation.unwrap_or(0) == b.observed_generation.unwrap_or(0)
        && a.conditions.clone().unwrap_or_default() == b.conditions.clone().unwrap_or_default()
}
