//! ReplicaSet: keeps the wanted number of equal pods.

use std::collections::BTreeMap;
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::plan::{Key, Notice, Plan, Write};
use crate::view::{View, controller_of, is_going, managed_by, selects};
use crate::{Reconciler, pods};

/// Most pods made or removed in one go, so that a mistake in `replicas` does not flood the API.
const BURST: usize = 500;

/// The reconciler of ReplicaSets.
pub struct ReplicaSets;

impl Reconciler for ReplicaSets {
    const NAME: &'static str = "replicaset-controller";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let Some(set) = view.replica_sets.get(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let candidates: Vec<_> = view
            .pods
            .list_in(&key.namespace)
            .into_iter()
            .filter(|pod| !pods::is_finished(pod))
            .collect();
        let mut mine: Vec<&Pod> = Vec::new();
        let mut terminating = 0;
        for pod in &candidates {
            match claim(&set, pod) {
                Claim::Mine if is_going(pod.as_ref()) => terminating += 1,
                Claim::Mine => mine.push(pod),
                Claim::Adopt => {
                    plan.write(Write::merge(pod.as_ref(), adoption(&set, pod)));
                    mine.push(pod);
                }
                Claim::Release => plan.write(Write::merge(pod.as_ref(), release(&set, pod))),
                Claim::NotMine => {}
            }
        }
        if !is_going(set.as_ref()) {
            match_number(&set, &mine, &mut plan, now);
        }
        update_status(&set, &mine, terminating, &mut plan, now);
        plan
    }

    fn failed(&self, key: &Key, view: &View, write: &Write, why: &str) -> Option<Notice> {
        let set = view.replica_sets.get(&key.namespace, &key.name)?;
        let (reason, verb) = match write {
            Write::Create(..) => ("FailedCreate", "creating"),
            Write::Delete { .. } => ("FailedDelete", "deleting"),
            _ => return None,
        };
        Some(Notice {
            about: client::reference(set.as_ref()),
            kind: EventType::Warning,
            reason,
            message: format!("Error {verb}: {why}"),
        })
    }
}

enum Claim {
    Mine,
    Adopt,
    Release,
    NotMine,
}

fn claim(set: &ReplicaSet, pod: &Pod) -> Claim {
    let selected = set
        .spec
        .as_ref()
        .is_some_and(|spec| selects(&spec.selector, pod.metadata.labels.as_ref()));
    match controller_of(pod) {
        Some(owner) if Some(&owner.uid) != set.metadata.uid.as_ref() => Claim::NotMine,
        Some(_) if selected => Claim::Mine,
        Some(_) if is_going(set) => Claim::NotMine,
        Some(_) => Claim::Release,
        None if selected && !is_going(set) && !is_going(pod) => Claim::Adopt,
        None => Claim::NotMine,
    }
}

fn adoption(set: &ReplicaSet, pod: &Pod) -> serde_json::Value {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.push(managed_by(set));
    json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}})
}

fn release(set: &ReplicaSet, pod: &Pod) -> serde_json::Value {
    let owners: Vec<_> = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| Some(&owner.uid) != set.metadata.uid.as_ref())
        .collect();
    json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}})
}

fn wanted(set: &ReplicaSet) -> usize {
    let replicas = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

fn match_number(set: &ReplicaSet, mine: &[&Pod], plan: &mut Plan, now: Timestamp) {
    let wanted = wanted(set);
    if mine.len() < wanted {
        for index in 0..(wanted - mine.len()).min(BURST) {
            let pod = new_pod(set, now, index);
            let name = pod.metadata.name.clone().unwrap_or_default();
            plan.write(Write::create(&pod));
            plan.tell(
                set,
                EventType::Normal,
                "SuccessfulCreate",
                format!("Created pod: {name}"),
            );
        }
    } else {
        for pod in victims(mine, (mine.len() - wanted).min(BURST)) {
            let name = pod.metadata.name.clone().unwrap_or_default();
            plan.write(Write::delete(pod));
            plan.tell(
                set,
                EventType::Normal,
                "SuccessfulDelete",
                format!("Deleted pod: {name}"),
            );
        }
    }
}

/// A pod from the set's template. Its name's suffix is drawn from the set's
/// UID, the time and the index, so that the decision stays a function of its
/// arguments; a collision only means that the next look makes another.
fn new_pod(set: &ReplicaSet, now: Timestamp, index: usize) -> Pod {
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.clone())
        .unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let uid = set.metadata.uid.as_deref().unwrap_or_default();
    let base = set.metadata.name.clone().unwrap_or_default();
    let seed = format!("{uid}/{}/{index}", now.as_nanosecond());
    Pod {
        metadata: ObjectMeta {
            name: Some(pods::child_name(&base, &safe_suffix(&seed, 5))),
            generate_name: Some(format!("{base}-")),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![managed_by(set)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

/// `length` characters of Kubernetes' name alphabet (no vowels, so no words) drawn from `seed`.
pub(crate) fn safe_suffix(seed: &str, length: usize) -> String {
    const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";
    let digest = Sha256::digest(seed.as_bytes());
    digest
        .iter()
        .take(length)
        .map(|byte| char::from(ALPHABET[usize::from(*byte) % 27]))
        .collect()
}

/// The `count` pods that are missed least: unassigned before assigned, pending
/// before running, unready before ready, cheap before dear, crowded nodes
/// first, newest first.
fn victims<'a>(mine: &[&'a Pod], count: usize) -> Vec<&'a Pod> {
    let mut on_node: BTreeMap<&str, usize> = BTreeMap::new();
    for pod in mine {
        *on_node.entry(pods::node_of(pod)).or_default() += 1;
    }
    let mut ranked = mine.to_vec();
    ranked.sort_by_cached_key(|pod| {
        let crowd = on_node.get(pods::node_of(pod)).copied().unwrap_or(0);
        (
            !pods::node_of(pod).is_empty(),
            pods::phase(pod) != "Pending",
            pods::is_ready(pod),
            pods::deletion_cost(pod),
            std::cmp::Reverse(crowd),
            std::cmp::Reverse(pods::restarts(pod)),
            std::cmp::Reverse(pod.metadata.creation_timestamp.as_ref().map(|t| t.0)),
            pod.metadata.name.clone(),
        )
    });
    ranked.truncate(count);
    ranked
}

fn update_status(set: &ReplicaSet, mine: &[&Pod], terminating: i32, plan: &mut Plan, now: Timestamp) {
    let spec = set.spec.clone().unwrap_or_default();
    let min_ready = Duration::from_secs(u64::try_from(spec.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let template_labels = spec
        .template
        .and_then(|t| t.metadata)
        .and_then(|m| m.labels)
        .unwrap_or_default();
    let labelled = |pod: &&&Pod| {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        template_labels.iter().all(|(k, v)| labels.get(k) == Some(v))
    };
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let ready = mine.iter().filter(|pod| pods::is_ready(pod)).count();
    let mut available = 0;
    for pod in mine.iter().filter(|pod| pods::is_ready(pod)) {
        match pods::available_in(pod, min_ready, now) {
            None => available += 1,
            Some(wait) => plan.look_again(wait),
        }
    }
    let before = set.status.clone().unwrap_or_default();
    let after = ReplicaSetStatus {
        replicas: count(mine.len()),
        fully_labeled_replicas: Some(count(mine.iter().filter(labelled).count())),
        ready_replicas: Some(count(ready)),
        available_replicas: Some(available),
        terminating_replicas: Some(terminating),
        observed_generation: set.metadata.generation,
        conditions: before.conditions.clone(),
    };
    if tidy(&before) != tidy(&after) {
        plan.write(Write::merge_status(set, json!({"status": after})));
    }
}

/// The status with absent counts as zero, as they are the same to a reader.
fn tidy(status: &ReplicaSetStatus) -> [i64; 6] {
    [
        status.replicas.into(),
        status.fully_labeled_replicas.unwrap_or(0).into(),
        status.ready_replicas.unwrap_or(0).into(),
        status.available_replicas.unwrap_or(0).into(),
        status.terminating_replicas.unwrap_or(0).into(),
        status.observed_generation.unwrap_or(0),
    ]
}

/// The ReplicaSets a pod matters to: the one that manages it, or all that would adopt it.
pub fn keys_for_pod(pod: &Pod, view: &View) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(pod) {
        Some(owner) if owner.kind == "ReplicaSet" => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => view
            .replica_sets
            .list_in(namespace)
            .iter()
            .filter(|set| {
                set.spec
                    .as_ref()
                    .is_some_and(|s| selects(&s.selector, pod.metadata.labels.as_ref()))
            })
            .map(|set| Key::of(set.as_ref()))
            .collect(),
    }
}
