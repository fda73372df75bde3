//! ReplicaSet: keeps the wanted number of equal pods; so does what else is [`Replicating`].

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use client::{Cache, EventType};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde_json::json;
use sha2::{Digest, Sha256};

use crate::plan::{Key, Plan, Write};
use crate::replicating::{Labels, Replicating, Wants};
use crate::view::{View, controller_of, is_going, managed_by, selects};
use crate::{Reconciler, pods};

/// Most pods made or removed in one go, so that a mistake in `replicas` does not flood the API.
const BURST: usize = 500;

/// The condition of a set that cannot make or remove pods.
const REPLICA_FAILURE: &str = "ReplicaFailure";

impl Replicating for ReplicaSet {
    const CONTROLLER: &'static str = "replicaset-controller";
    const QUEUE: &'static str = "replicaset";

    fn cache(view: &View) -> &Cache<Self> {
        &view.replica_sets
    }

    fn wants(&self) -> Wants<'_> {
        let spec = self.spec.as_ref();
        Wants {
            replicas: spec.and_then(|spec| spec.replicas),
            template: spec.and_then(|spec| spec.template.as_ref()),
            min_ready_seconds: spec.and_then(|spec| spec.min_ready_seconds),
        }
    }

    fn picks(&self, labels: Option<&Labels>) -> bool {
        let spec = self.spec.as_ref();
        spec.is_some_and(|spec| selects(&spec.selector, labels))
    }

    fn status(&self) -> ReplicaSetStatus {
        self.status.clone().unwrap_or_default()
    }

    fn told(status: ReplicaSetStatus) -> ReplicaSetStatus {
        status
    }
}

/// The reconciler of one such kind.
pub struct Replicas<T>(PhantomData<fn() -> T>);

impl<T> Default for Replicas<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Replicating> Reconciler for Replicas<T> {
    const NAME: &'static str = T::CONTROLLER;
    const QUEUE: &'static str = T::QUEUE;

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let Some(set) = T::cache(view).get(&key.namespace, &key.name) else {
            return Plan::nothing();
        };
        let mut plan = Plan::nothing();
        let set = set.as_ref();
        let pods = pods_of(set, view, &mut plan);
        if !is_going(set) {
            match_number(set, &pods.mine(), &mut plan, now);
        }
        // After the writes before it, which must have succeeded: nothing fails any more.
        update_status(set, &pods, None, &mut plan, now);
        plan
    }

    fn failed(&self, key: &Key, view: &View, write: &Write, why: &str, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(set) = T::cache(view).get(&key.namespace, &key.name) else {
            return plan;
        };
        let (reason, verb) = match write {
            Write::Create(..) => ("FailedCreate", "creating"),
            Write::Delete { .. } => ("FailedDelete", "deleting"),
            _ => return plan,
        };
        let message = format!("Error {verb}: {why}");
        plan.tell(set.as_ref(), EventType::Warning, reason, message);
        let pods = pods_of(set.as_ref(), view, &mut Plan::nothing());
        let failure = ReplicaSetCondition {
            type_: REPLICA_FAILURE.to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(why.to_owned()),
            last_transition_time: Some(Time(now)),
        };
        update_status(set.as_ref(), &pods, Some(failure), &mut plan, now);
        plan
    }
}

/// The pods that a set counts.
struct Pods {
    /// Those that are to stay.
    staying: Vec<Arc<Pod>>,
    /// How many others are being stopped.
    terminating: i32,
}

impl Pods {
    fn mine(&self) -> Vec<&Pod> {
        self.staying.iter().map(Arc::as_ref).collect()
    }
}

/// The set's pods; those it should adopt or release are planned for.
fn pods_of<T: Replicating>(set: &T, view: &View, plan: &mut Plan) -> Pods {
    let namespace = set.metadata().namespace.as_deref().unwrap_or_default();
    let mut pods = Pods {
        staying: Vec::new(),
        terminating: 0,
    };
    for pod in view.pods.list_in(namespace) {
        if pods::is_finished(&pod) {
            continue;
        }
        match claim(set, &pod) {
            Claim::Mine if is_going(pod.as_ref()) => pods.terminating += 1,
            Claim::Mine => pods.staying.push(pod),
            Claim::Adopt => {
                plan.write(Write::merge(pod.as_ref(), adoption(set, &pod)));
                pods.staying.push(pod);
            }
            Claim::Release => plan.write(Write::merge(pod.as_ref(), release(set, &pod))),
            Claim::NotMine => {}
        }
    }
    pods
}

enum Claim {
    Mine,
    Adopt,
    Release,
    NotMine,
}

fn claim<T: Replicating>(set: &T, pod: &Pod) -> Claim {
    let selected = set.picks(pod.metadata.labels.as_ref());
    match controller_of(pod) {
        Some(owner) if Some(&owner.uid) != set.metadata().uid.as_ref() => Claim::NotMine,
        Some(_) if selected => Claim::Mine,
        Some(_) if is_going(set) => Claim::NotMine,
        Some(_) => Claim::Release,
        None if selected && !is_going(set) && !is_going(pod) => Claim::Adopt,
        None => Claim::NotMine,
    }
}

fn adoption<T: Replicating>(set: &T, pod: &Pod) -> serde_json::Value {
    let mut owners = pod.metadata.owner_references.clone().unwrap_or_default();
    owners.push(managed_by(set));
    json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}})
}

fn release<T: Replicating>(set: &T, pod: &Pod) -> serde_json::Value {
    let owners: Vec<_> = pod
        .metadata
        .owner_references
        .iter()
        .flatten()
        .filter(|owner| Some(&owner.uid) != set.metadata().uid.as_ref())
        .collect();
    json!({"metadata": {"uid": pod.metadata.uid, "ownerReferences": owners}})
}

fn match_number<T: Replicating>(set: &T, mine: &[&Pod], plan: &mut Plan, now: Timestamp) {
    let wanted = usize::try_from(set.wants().replicas.unwrap_or(1)).unwrap_or(0);
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
fn new_pod<T: Replicating>(set: &T, now: Timestamp, index: usize) -> Pod {
    let template = set.wants().template.cloned().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let uid = set.metadata().uid.as_deref().unwrap_or_default();
    let base = set.metadata().name.clone().unwrap_or_default();
    let seed = format!("{uid}/{}/{index}", now.as_nanosecond());
    Pod {
        metadata: ObjectMeta {
            name: Some(pods::child_name(&base, &safe_suffix(&seed, 5))),
            generate_name: Some(format!("{base}-")),
            namespace: set.metadata().namespace.clone(),
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

/// Plans the write of the status if it changed. `failure` is what went wrong
/// this time; a failure that lasts keeps its first words, as in Kubernetes.
fn update_status<T: Replicating>(
    set: &T,
    pods: &Pods,
    failure: Option<ReplicaSetCondition>,
    plan: &mut Plan,
    now: Timestamp,
) {
    let mine = pods.mine();
    let wants = set.wants();
    let min_ready = Duration::from_secs(u64::try_from(wants.min_ready_seconds.unwrap_or(0)).unwrap_or(0));
    let template = wants.template.and_then(|template| template.metadata.as_ref());
    let template_labels = template.and_then(|meta| meta.labels.as_ref());
    let labelled = |pod: &&&Pod| {
        let labels = pod.metadata.labels.as_ref();
        let mut wanted = template_labels.into_iter().flatten();
        wanted.all(|(name, value)| labels.and_then(|labels| labels.get(name)) == Some(value))
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
    let before = set.status();
    let after = T::told(ReplicaSetStatus {
        replicas: count(mine.len()),
        fully_labeled_replicas: Some(count(mine.iter().filter(labelled).count())),
        ready_replicas: Some(count(ready)),
        available_replicas: Some(available),
        terminating_replicas: Some(pods.terminating),
        observed_generation: set.metadata().generation,
        conditions: Some(conditions(&before, failure)),
    });
    let (old, new) = (before.conditions.clone().unwrap_or_default(), &after.conditions);
    if tidy(&before) != tidy(&after) || Some(&old) != new.as_ref() {
        plan.write(Write::merge_status(set, json!({"status": after})));
    }
}

fn conditions(before: &ReplicaSetStatus, failure: Option<ReplicaSetCondition>) -> Vec<ReplicaSetCondition> {
    let old = before.conditions.clone().unwrap_or_default();
    let (failed, mut all): (Vec<_>, Vec<_>) = old.into_iter().partition(|c| c.type_ == REPLICA_FAILURE);
    all.extend(failure.map(|new| failed.into_iter().next().unwrap_or(new)));
    all
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

/// The objects of a kind that a pod matters to: the one that manages it, or all that would adopt it.
pub fn keys_for_pod<T: Replicating>(pod: &Pod, view: &View) -> Vec<Key> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    match controller_of(pod) {
        Some(owner) if owner.kind == T::KIND => vec![Key::new(namespace, &owner.name)],
        Some(_) => Vec::new(),
        None => T::cache(view)
            .list_in(namespace)
            .iter()
            .filter(|set| set.picks(pod.metadata.labels.as_ref()))
            .map(|set| Key::of(set.as_ref()))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_of_others_stay() {
        let condition = |kind: &str| ReplicaSetCondition {
            type_: kind.into(),
            status: "True".into(),
            ..ReplicaSetCondition::default()
        };
        let before = ReplicaSetStatus {
            conditions: Some(vec![condition(REPLICA_FAILURE), condition("example.com/Blessed")]),
            ..ReplicaSetStatus::default()
        };
        let (theirs, ours) = (condition("example.com/Blessed"), condition(REPLICA_FAILURE));
        assert_eq!(conditions(&before, None), std::slice::from_ref(&theirs));
        assert_eq!(conditions(&before, Some(ours.clone())), [theirs, ours]);
    }
}
