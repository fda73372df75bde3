//! How far each ReplicaSet may grow or shrink at this moment.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Rollout, available, history, resize, size, wanted};
use crate::plan::Plan;

/// `RollingUpdate` or `Recreate`.
pub(super) fn strategy(deployment: &Deployment) -> &str {
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy
        .and_then(|s| s.type_.as_deref())
        .unwrap_or("RollingUpdate")
}

/// `maxSurge` and `maxUnavailable` in pods: percentages of the wanted number,
/// rounded up and down; both zero would stand still, so one may be missing then.
pub(super) fn bounds(deployment: &Deployment) -> (i32, i32) {
    if strategy(deployment) == "Recreate" {
        return (0, 0);
    }
    let wanted = wanted(deployment);
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    let rolling = strategy
        .and_then(|s| s.rolling_update.clone())
        .unwrap_or_default();
    let surge = resolve(rolling.max_surge.as_ref(), wanted, true);
    let missing = resolve(rolling.max_unavailable.as_ref(), wanted, false);
    if surge == 0 && missing == 0 {
        (0, 1)
    } else {
        (surge, missing)
    }
}

fn resolve(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    let quarter = IntOrString::String("25%".to_owned());
    match value.unwrap_or(&quarter) {
        IntOrString::Int(n) => (*n).max(0),
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            let product = percent.max(0) * i64::from(total.max(0));
            let pods = if up { (product + 99) / 100 } else { product / 100 };
            i32::try_from(pods).unwrap_or(i32::MAX)
        }
    }
}

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
