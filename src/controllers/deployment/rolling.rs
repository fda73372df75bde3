//! How far each ReplicaSet may grow or shrink at this moment.

use std::sync::Arc;

use client::EventType;
use k8s_openapi::api::apps::v1::ReplicaSet;
use serde_json::json;

use super::history;
use super::rollout::{Rollout, available, bounds, size, wanted};
use crate::plan::{Plan, Write};

/// One step of a rolling update: grow the new set first; once nothing is left to grow, shrink the old ones.
pub(super) fn roll(rollout: &Rollout, plan: &mut Plan) {
    let wanted = wanted(rollout.deployment);
    let (surge, missing) = bounds(rollout.deployment);
    let Some(new) = &rollout.new else {
        let room = (wanted + surge - rollout.total()).clamp(0, wanted);
        return history::create(rollout, room, plan);
    };
    let have = size(new);
    if have > wanted {
        return resize(rollout, new, wanted, plan);
    }
    let room = (wanted + surge - rollout.total()).max(0);
    let grown = (have + room).min(wanted);
    resize(rollout, new, grown, plan);
    if grown == have {
        shrink_old(rollout, new, wanted - missing, plan);
    }
}

/// Takes pods from the old sets, the unavailable ones first, while at least `least` stay available.
fn shrink_old(rollout: &Rollout, new: &ReplicaSet, least: i32, plan: &mut Plan) {
    let old_total: i32 = rollout.old.iter().map(|set| size(set)).sum();
    if old_total == 0 {
        return;
    }
    let new_unavailable = size(new) - available(new);
    let mut may_go = rollout.total() - least - new_unavailable;
    let mut sizes: Vec<(&Arc<ReplicaSet>, i32)> = rollout.old.iter().map(|set| (set, size(set))).collect();
    for (set, left) in &mut sizes {
        let broken = (*left - available(set)).clamp(0, may_go.max(0));
        *left -= broken;
        may_go -= broken;
    }
    let available_now: i32 = rollout.all().map(|set| available(set)).sum();
    let mut spare = (available_now - least).max(0);
    for (set, left) in &mut sizes {
        let healthy = available(set).min(*left).min(spare);
        *left -= healthy;
        spare -= healthy;
    }
    for (set, left) in sizes {
        if left != size(set) {
            resize(rollout, set, left, plan);
        }
    }
}

/// Sizes the sets after `replicas` changed: the only active one gets it all,
/// several share the change in proportion to their size.
pub(super) fn scale(rollout: &Rollout, plan: &mut Plan) {
    let wanted = wanted(rollout.deployment);
    let active: Vec<_> = rollout.all().filter(|set| size(set) > 0).collect();
    match active.as_slice() {
        [] => {
            if let Some(new) = &rollout.new {
                resize(rollout, new, wanted, plan);
            }
        }
        [one] => resize(rollout, one, wanted, plan),
        many => share(rollout, many, wanted, plan),
    }
}

fn share(rollout: &Rollout, sets: &[&Arc<ReplicaSet>], wanted: i32, plan: &mut Plan) {
    let (surge, _) = bounds(rollout.deployment);
    let total: i32 = sets.iter().map(|set| size(set)).sum();
    let allowed = if wanted > 0 { wanted + surge } else { 0 };
    let mut change = allowed - total;
    let mut ranked = sets.to_vec();
    // The largest first; among equals the newest when growing, the oldest when shrinking.
    ranked.sort_by_key(|set| std::cmp::Reverse(size(set)));
    if change > 0 {
        ranked.sort_by_key(|set| {
            let born = set.metadata.creation_timestamp.as_ref().map(|t| t.0);
            (std::cmp::Reverse(size(set)), std::cmp::Reverse(born))
        });
    }
    let whole = change;
    let mut sizes: Vec<i32> = Vec::with_capacity(ranked.len());
    for set in &ranked {
        let part = (f64::from(size(set)) * f64::from(whole) / f64::from(total.max(1))).round() as i32;
        let part = if whole > 0 {
            part.clamp(0, change.max(0))
        } else {
            part.clamp(change.min(0), 0)
        };
        change -= part;
        sizes.push((size(set) + part).max(0));
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + change).max(0);
    }
    for (set, to) in ranked.iter().zip(sizes) {
        resize(rollout, set, to, plan);
    }
}

/// The old pods must all be gone before the first new one starts.
pub(super) fn recreate(rollout: &Rollout, plan: &mut Plan) {
    let mut shrinking = false;
    for set in rollout.old.iter().filter(|set| size(set) > 0) {
        resize(rollout, set, 0, plan);
        shrinking = true;
    }
    if shrinking || rollout.old_pods_left {
        return;
    }
    match &rollout.new {
        Some(set) => resize(rollout, set, wanted(rollout.deployment), plan),
        None => history::create(rollout, wanted(rollout.deployment), plan),
    }
}

/// Gives a ReplicaSet another size, unless it has it, and tells about it.
fn resize(rollout: &Rollout, set: &ReplicaSet, to: i32, plan: &mut Plan) {
    let from = size(set);
    let annotations = history::size_annotations(rollout.deployment);
    let noted = annotations
        .iter()
        .all(|(k, v)| history::annotation(set, k) == Some(v.as_str()));
    if from == to && noted {
        return;
    }
    let patch = json!({
        "metadata": {"annotations": annotations, "resourceVersion": set.metadata.resource_version},
        "spec": {"replicas": to},
    });
    plan.write(Write::merge(set, patch));
    if from != to {
        let direction = if to > from { "up" } else { "down" };
        let name = set.metadata.name.as_deref().unwrap_or_default();
        let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
        plan.tell(
            rollout.deployment,
            EventType::Normal,
            "ScalingReplicaSet",
            message,
        );
    }
}
