//! Deployment: rolls pods from one template to the next.
//!
//! Each template has a ReplicaSet of its own. A rollout grows the newest and
//! shrinks the others, within `maxSurge` and `maxUnavailable`.

mod conditions;
mod history;
mod progress;
mod rollback;
mod rolling;
mod rollout;
mod status;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use serde_json::json;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::pods;
use crate::view::{View, controller_of, is_going, managed_by, selects};
use rollout::{Rollout, size, wanted};

/// The reconciler of Deployments.
pub struct Deployments;

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
        } else if rollout::strategy(&deployment) == "Recreate" {
            rolling::recreate(&rollout, &mut plan);
        } else {
            rolling::roll(&rollout, &mut plan);
        }
        if !paused && conditions::was_complete(&deployment) {
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

/// Whether `replicas` changed since the ReplicaSets were last sized.
fn is_scaling(rollout: &Rollout) -> bool {
    let wanted = wanted(rollout.deployment).to_string();
    rollout.all().filter(|set| size(set) > 0).any(|set| {
        history::annotation(set, history::DESIRED_REPLICAS).is_some_and(|desired| desired != wanted)
    })
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
