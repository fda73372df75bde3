//! A rollout as it stands, and what its Deployment asks for.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// A Deployment with the ReplicaSets that are its own.
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    /// The ReplicaSet of the current template, if it exists.
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// The ReplicaSets of earlier templates, oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
    /// Whether pods of earlier templates are still about (also those being stopped).
    pub(super) old_pods_left: bool,
    /// Whether the name that the current template's ReplicaSet would get is another's.
    pub(super) collides: bool,
}

impl Rollout<'_> {
    /// All ReplicaSets, the new one last.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(self.new.iter())
    }

    /// Sum of the sizes asked for.
    pub(super) fn total(&self) -> i32 {
        self.all().map(|set| size(set)).sum()
    }
}

/// How many replicas the Deployment wants.
pub(super) fn wanted(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// How many replicas a ReplicaSet is asked to have.
pub(super) fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// How many of its pods are available.
pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

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
