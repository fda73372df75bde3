//! Deployment: rolls pods from one template to the next.
//!
//! Each template has a ReplicaSet of its own. A rollout grows the newest and
//! shrinks the others, within `maxSurge` and `maxUnavailable`.

mod history;
mod progress;
mod rollback;
mod rolling;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::json;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::pods;
use crate::view::{View, controller_of, is_going, managed_by, selects};

/// The reconciler of Deployments.
pub struct Deployments;

/// A Deployment with the ReplicaSets that are its own.
struct Rollout<'a> {
    deployment: &'a Deployment,
    /// The ReplicaSet of the current template, if it exists.
    new: Option<Arc<ReplicaSet>>,
    /// The ReplicaSets of earlier templates, oldest first.
    old: Vec<Arc<ReplicaSet>>,
    /// Whether pods of earlier templates are still about (also those being stopped).
    old_pods_left: bool,
    /// Whether the name that the current template's ReplicaSet would get is another's.
    collides: bool,
}

impl Reconciler for Deployments {
    const NAME: &'static str = "deployment-controller";
    const QUEUE: &'static str = "deployment";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let Some(deployment) = view.deployments.get(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let sets = own_sets(&deployment, view, &mut plan);
        let rollout = sort_out(&deployment, sets, view);
        if is_going(deployment.as_ref()) {
            status::update(&rollout, &mut plan, now);
            return plan;
        }
        if rollback::reverse(&rollout, &mut plan) {
            return plan;
        }
        history::number(&rollout, &mut plan);
        rollback::forget(&rollout, &mut plan);
        rollback::mark_complete(&rollout, &mut plan);
        let paused = deployment.spec.as_ref().and_then(|s| s.paused).unwrap_or(false);
        if paused || is_scaling(&rollout) {
            rolling::scale(&rollout, &mut plan);
        } else if rolling::strategy(&deployment) == "Recreate" {
            recreate(&rollout, &mut plan);
        } else {
            rolling::roll(&rollout, &mut plan);
        }
        if !paused && is_complete(&deployment) {
            history::clean_up(&rollout, &mut plan);
        }
        status::update(&rollout, &mut plan, now);
        plan
    }

    fn failed(&self, key: &Key, view: &View, write: &Write, why: &str, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let deployment = view.deployments.get(&key.namespace, &key.name);
        if let (Some(deployment), Write::Create(target, _)) = (deployment, write) {
            progress::creation_failed(&deployment, &target.key.name, why, &mut plan, now);
        }
        plan
    }
}

/// The ReplicaSets that this Deployment manages; orphans it selects are adopted.
fn own_sets(deployment: &Deployment, view: &View, plan: &mut Plan) -> Vec<Arc<ReplicaSet>> {
    let Some(spec) = &deployment.spec else {
        return Vec::new();
    };
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let mut own = Vec::new();
    for set in view.replica_sets.list_in(namespace) {
        let selected = selects(&spec.selector, set.metadata.labels.as_ref());
        match controller_of(set.as_ref()) {
            Some(owner) if Some(&owner.uid) == deployment.metadata.uid.as_ref() && selected => own.push(set),
            None if selected && !is_going(deployment) && !is_going(set.as_ref()) => {
                let mut owners = set.metadata.owner_references.clone().unwrap_or_default();
                owners.push(managed_by(deployment));
                let patch = json!({"metadata": {"uid": set.metadata.uid, "ownerReferences": owners}});
                plan.write(Write::merge(set.as_ref(), patch));
                own.push(set);
            }
            _ => {}
        }
    }
    own.sort_by_key(|set| {
        (
            set.metadata.creation_timestamp.as_ref().map(|t| t.0),
            set.metadata.name.clone(),
        )
    });
    own
}

fn sort_out<'a>(deployment: &'a Deployment, sets: Vec<Arc<ReplicaSet>>, view: &View) -> Rollout<'a> {
    let new = sets
        .iter()
        .find(|set| history::same_template(deployment, set))
        .cloned();
    let new_uid = new.as_ref().and_then(|set| set.metadata.uid.clone());
    let old: Vec<_> = sets
        .into_iter()
        .filter(|set| set.metadata.uid != new_uid)
        .collect();
    let namespace = deployment.metadata.namespace.as_deref().unwrap_or_default();
    let collides = new.is_none()
        && view
            .replica_sets
            .get(namespace, &history::new_name(deployment))
            .is_some();
    let old_pods_left = view.pods.list_in(namespace).iter().any(|pod| {
        !pods::is_finished(pod)
            && controller_of(pod.as_ref()).is_some_and(|owner| {
                old.iter()
                    .any(|set| set.metadata.uid.as_ref() == Some(&owner.uid))
            })
    });
    Rollout {
        deployment,
        new,
        old,
        old_pods_left,
        collides,
    }
}

/// Whether the last status that was written says that the rollout is over.
fn is_complete(deployment: &Deployment) -> bool {
    let before = deployment.status.clone().unwrap_or_default();
    status::is_complete(deployment, &before)
}

/// Whether `replicas` changed since the ReplicaSets were last sized.
fn is_scaling(rollout: &Rollout) -> bool {
    let wanted = wanted(rollout.deployment).to_string();
    rollout.all().filter(|set| size(set) > 0).any(|set| {
        history::annotation(set, history::DESIRED_REPLICAS).is_some_and(|desired| desired != wanted)
    })
}

/// The old pods must all be gone before the first new one starts.
fn recreate(rollout: &Rollout, plan: &mut Plan) {
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

impl Rollout<'_> {
    /// All ReplicaSets, the new one last.
    fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(self.new.iter())
    }

    /// Sum of the sizes asked for.
    fn total(&self) -> i32 {
        self.all().map(|set| size(set)).sum()
    }
}

/// How many replicas the Deployment wants.
fn wanted(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1)
}

/// How many replicas a ReplicaSet is asked to have.
fn size(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// How many of its pods are available.
fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
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

/// The Deployments a ReplicaSet matters to.
pub fn keys_for_set(set: &ReplicaSet, view: &View) -> Vec<Key> {
    let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(set) {
        Some(owner) if owner.kind == "Deployment" => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => view
            .deployments
            .list_in(namespace)
            .iter()
            .filter(|d| {
                d.spec
                    .as_ref()
                    .is_some_and(|s| selects(&s.selector, set.metadata.labels.as_ref()))
            })
            .map(|d| Key::of(d.as_ref()))
            .collect(),
    }
}

/// The Deployment behind a pod, so that `Recreate` learns when the old pods are gone.
pub fn keys_for_pod(pod: &k8s_openapi::api::core::v1::Pod, view: &View) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    controller_of(pod)
        .filter(|owner| owner.kind == "ReplicaSet")
        .and_then(|owner| view.replica_sets.get(namespace, &owner.name))
        .map(|set| keys_for_set(&set, view))
        .unwrap_or_default()
}
