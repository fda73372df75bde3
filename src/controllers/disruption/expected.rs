//! How many pods a budget may count on: what their controllers want.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::plan::Plan;
use crate::scales::{Owner, STALE, Wanted};
use crate::view::{View, controller_of};

/// A count as the API has it.
pub fn number(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// When to look again for the answer of somebody who was asked.
pub const ANSWER_AFTER: Duration = Duration::from_millis(500);

/// How many pods there should be, and how many of them must be healthy; `None` while that has to be asked for.
pub fn expectation(
    budget: &PodDisruptionBudget,
    mine: &[&Arc<Pod>],
    view: &View,
    plan: &mut Plan,
    now: Timestamp,
) -> Result<Option<(i32, i32)>, String> {
    let spec = budget.spec.clone().unwrap_or_default();
    if let (None, Some(IntOrString::Int(min))) = (&spec.max_unavailable, &spec.min_available) {
        return Ok(Some((number(mine.len()), *min)));
    }
    if spec.max_unavailable.is_none() && spec.min_available.is_none() {
        return Ok(Some((0, 0)));
    }
    let Some(expected) = scale(budget, mine, view, plan, now)? else {
        return Ok(None);
    };
    let desired = match (spec.max_unavailable, spec.min_available) {
        (Some(max), _) => (expected - resolve(&max, expected)).max(0),
        (None, min) => min.map_or(0, |min| resolve(&min, expected)),
    };
    Ok(Some((expected, desired)))
}

/// A number, or a percentage of `total` rounded up.
fn resolve(value: &IntOrString, total: i32) -> i32 {
    match value {
        IntOrString::Int(n) => *n,
        IntOrString::String(text) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(0);
            i32::try_from((percent * i64::from(total) + 99) / 100).unwrap_or(i32::MAX)
        }
    }
}

/// What the controllers of the pods want, together; `None` while that of one is not known. Pods without
/// a controller cannot be counted on.
fn scale(
    budget: &PodDisruptionBudget,
    mine: &[&Arc<Pod>],
    view: &View,
    plan: &mut Plan,
    now: Timestamp,
) -> Result<Option<i32>, String> {
    let mut wanted: BTreeMap<String, i32> = BTreeMap::new();
    let (mut unmanaged, mut missing) = (false, false);
    for pod in mine {
        let Some(owner) = controller_of(pod.as_ref()) else {
            unmanaged = true;
            continue;
        };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        match scale_of(owner, namespace, view, plan, now) {
            Some(Wanted::Pods(uid, replicas)) => drop(wanted.insert(uid, replicas)),
            Some(Wanted::Gone) => {
                let name = &pod.metadata.name;
                return Err(format!("found no controllers for pod {name:?}"));
            }
            Some(Wanted::Unknown(why)) => return Err(why),
            None => missing = true,
        }
    }
    if unmanaged {
        plan.tell(
            budget,
            EventType::Warning,
            "UnmanagedPods",
            "Pods selected by this PodDisruptionBudget were found to be unmanaged. As a result, the status of the PDB \
             cannot be calculated correctly, which may result in undefined behavior. To account for these pods please \
             set \".spec.minAvailable\" field of the PDB to an integer value."
                .to_owned(),
        );
    }
    Ok((!missing).then(|| wanted.values().sum()))
}

/// What the topmost controller wants: a Deployment rather than its ReplicaSet. Kinds that are not in the
/// caches are asked for by their scale, and looked at again: nothing tells when it changes.
fn scale_of(
    owner: &OwnerReference,
    namespace: &str,
    view: &View,
    plan: &mut Plan,
    now: Timestamp,
) -> Option<Wanted> {
    let is_set = owner.kind == "ReplicaSet" && owner.api_version.starts_with("apps/");
    let wanted = if is_set {
        replica_set(owner, namespace, view)
    } else {
        let asked = Owner {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: namespace.to_owned(),
            name: owner.name.clone(),
        };
        let answer = view.scales.get(&asked, now);
        plan.look_again(answer.as_ref().map_or(ANSWER_AFTER, |_| STALE));
        answer?
    };
    // An object of the same name that came later is not the owner.
    Some(match wanted {
        Wanted::Pods(uid, _) if !is_set && uid != owner.uid => Wanted::Gone,
        wanted => wanted,
    })
}

fn replica_set(owner: &OwnerReference, namespace: &str, view: &View) -> Wanted {
    let set = view.replica_sets.get(namespace, &owner.name);
    let Some(set) = set.filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid)) else {
        return Wanted::Gone;
    };
    let above = controller_of(set.as_ref()).filter(|above| above.kind == "Deployment");
    if let Some(deployment) = above.and_then(|above| view.deployments.get(namespace, &above.name)) {
        let replicas = deployment.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
        return Wanted::Pods(deployment.metadata.uid.clone().unwrap_or_default(), replicas);
    }
    let replicas = set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1);
    Wanted::Pods(owner.uid.clone(), replicas)
}
