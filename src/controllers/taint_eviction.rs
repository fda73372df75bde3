//! Takes pods off nodes whose `NoExecute` taints they do not tolerate, when
//! their time is over.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod, Taint};

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// Evicts pods from nodes whose `NoExecute` taints they do not tolerate; keyed by pod.
#[derive(Default)]
pub struct TaintEviction {
    /// Since when each pod, by its uid, has been seen to tolerate a taint for a while only: a taint that a
    /// person sets does not say when that was.
    waiting: Mutex<BTreeMap<Key, (String, Timestamp)>>,
}

impl TaintEviction {
    /// Since when the pod has been waiting for its eviction.
    fn seen(&self, key: &Key, pod: &Pod, now: Timestamp) -> Timestamp {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let mut waiting = self.waiting();
        let entry = waiting.entry(key.clone()).or_insert_with(|| (uid.clone(), now));
        if entry.0 != uid {
            *entry = (uid, now);
        }
        entry.1
    }

    fn forget(&self, key: &Key) {
        self.waiting().remove(key);
    }

    fn waiting(&self) -> MutexGuard<'_, BTreeMap<Key, (String, Timestamp)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reconciler for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";
    const QUEUE: &'static str = "noexec_taint_pod";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let pod = view.pods.get(&key.namespace, &key.name);
        let pod = pod.filter(|pod| !is_going(pod.as_ref()) && !pods::is_finished(pod));
        let node = pod
            .as_ref()
            .and_then(|pod| view.nodes.get("", pods::node_of(pod)));
        let (Some(pod), Some(node)) = (pod, node) else {
            self.forget(key);
            return plan;
        };
        match time_left(&pod, &node, || self.seen(key, &pod, now), now) {
            None => self.forget(key),
            Some(left) if left.is_zero() => {
                let (namespace, name) = (&key.namespace, &key.name);
                let why = "Taint manager: deleting due to NoExecute taint";
                plan.write(pods::disrupted(&pod, "DeletionByTaintManager", why, None, now));
                plan.write(Write::delete(pod.as_ref()));
                plan.tell(
                    pod.as_ref(),
                    EventType::Normal,
                    "TaintManagerEviction",
                    format!("Marking for deletion Pod {namespace}/{name}"),
                );
            }
            Some(left) => plan.look_again(left),
        }
        plan
    }
}

/// How long the pod may stay; `None` for ever. `seen` tells since when it has been waiting, for taints that
/// do not tell their time.
fn time_left(pod: &Pod, node: &Node, seen: impl Fn() -> Timestamp, now: Timestamp) -> Option<Duration> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let mut left: Option<Duration> = None;
    for taint in taints.filter(|taint| taint.effect == "NoExecute") {
        let Some(allowed) = tolerated_for(pod, taint) else {
            continue;
        };
        let since = match &taint.time_added {
            Some(added) => bound_at(pod).map_or(added.0, |bound| bound.max(added.0)),
            None => seen(),
        };
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let this = allowed.saturating_sub(passed);
        left = Some(left.map_or(this, |before| before.min(this)));
    }
    left
}

/// How long the pod tolerates the taint; `None` for ever.
fn tolerated_for(pod: &Pod, taint: &Taint) -> Option<Duration> {
    let tolerations = pod.spec.iter().flat_map(|spec| spec.tolerations.iter().flatten());
    let matching = tolerations.filter(|toleration| api::pod::tolerates(toleration, taint));
    match matching
        .map(|t| t.toleration_seconds)
        .min_by_key(|s| s.unwrap_or(i64::MAX))
    {
        None => Some(Duration::ZERO),
        Some(None) => None,
        Some(Some(seconds)) => Some(Duration::from_secs(u64::try_from(seconds).unwrap_or(0))),
    }
}

/// When the pod came to its node: it tolerates an older taint from then on.
fn bound_at(pod: &Pod) -> Option<Timestamp> {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    let mut bound = conditions.filter(|c| c.type_ == "PodScheduled" && c.status == "True");
    bound.next()?.last_transition_time.as_ref().map(|time| time.0)
}

/// The pods of a node, so that a new taint is felt at once.
pub fn keys_for_node(node: &Node, view: &View) -> Vec<Key> {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let pods = view.pods.list();
    pods.iter()
        .filter(|pod| pods::node_of(pod) == name)
        .map(|pod| Key::of(pod.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Cache;
    use serde_json::{Value, json};

    fn typed<T: serde::de::DeserializeOwned>(value: Value) -> T {
        serde_json::from_value(value).unwrap()
    }

    /// What becomes of a pod of that toleration 100 seconds after its node was tainted.
    fn decide(toleration: Value) -> Plan {
        let mut view = View::empty();
        view.nodes = Cache::fixed([typed(json!({"metadata": {"name": "n1"}, "spec": {"taints": [
            {"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"},
            {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]}}))]);
        view.pods = Cache::fixed([typed(json!({"metadata": {"name": "web", "namespace": "d"},
            "spec": {"nodeName": "n1", "containers": [], "tolerations": [toleration]}}))]);
        let now = "2026-01-01T00:01:40Z".parse().unwrap();
        TaintEviction::default().reconcile(&Key::new("d", "web"), &view, now)
    }

    fn tolerated_for(seconds: Option<i64>) -> Value {
        json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
               "tolerationSeconds": seconds})
    }

    #[test]
    fn a_pod_stays_for_as_long_as_it_tolerates() {
        assert_eq!(decide(tolerated_for(None)), Plan::nothing());
        let waiting = decide(tolerated_for(Some(300)));
        assert_eq!(waiting.again, Some(Duration::from_secs(200)));
        assert!(waiting.writes.is_empty());
        let over = decide(tolerated_for(Some(100)));
        assert!(
            matches!(over.writes.as_slice(), [Write::Patch(..), Write::Delete { .. }]),
            "{over:?}"
        );
        assert_eq!(over.events[0].1.message, "Marking for deletion Pod d/web");
        assert_eq!(decide(json!({"key": "other"})).writes.len(), 2);
    }

    #[test]
    fn a_pod_that_came_later_has_its_whole_time() {
        let bound = |at: &str| {
            let pod: Pod = typed(json!({"status": {"conditions": [
                {"type": "PodScheduled", "status": "True", "lastTransitionTime": at}]},
                "spec": {"containers": [], "tolerations": [{"operator": "Exists", "tolerationSeconds": 60}]}}));
            let node = typed(json!({"spec": {"taints": [
                {"key": "k", "effect": "NoExecute", "timeAdded": "2026-01-01T00:00:00Z"}]}}));
            let now = "2026-01-01T00:01:40Z".parse().unwrap();
            time_left(&pod, &node, || unreachable!("the taint tells its time"), now)
        };
        assert_eq!(bound("2026-01-01T00:01:30Z"), Some(Duration::from_secs(50)));
        assert_eq!(bound("2025-12-31T00:00:00Z"), Some(Duration::ZERO));
    }

    #[test]
    fn a_taint_without_a_time_counts_from_when_it_is_seen() {
        let controller = TaintEviction::default();
        let look = |uid: &str, tainted: bool, second: i64| {
            let mut view = View::empty();
            let taints = if tainted {
                json!([{"key": "k", "effect": "NoExecute"}])
            } else {
                json!([])
            };
            view.nodes = Cache::fixed([typed(
                json!({"metadata": {"name": "n1"}, "spec": {"taints": taints}}),
            )]);
            view.pods = Cache::fixed([typed(
                json!({"metadata": {"name": "web", "namespace": "d", "uid": uid},
                "spec": {"nodeName": "n1", "containers": [],
                    "tolerations": [{"key": "k", "operator": "Exists", "tolerationSeconds": 5}]}}),
            )]);
            controller.reconcile(
                &Key::new("d", "web"),
                &view,
                Timestamp::from_second(second).unwrap(),
            )
        };
        assert_eq!(look("a", true, 100).again, Some(Duration::from_secs(5)));
        assert_eq!(look("a", true, 103).again, Some(Duration::from_secs(2)));
        // Another pod of the name, and one whose taint went and came, begin anew.
        assert_eq!(look("b", true, 104).again, Some(Duration::from_secs(5)));
        assert_eq!(look("b", false, 105), Plan::nothing());
        assert_eq!(look("b", true, 106).again, Some(Duration::from_secs(5)));
        assert_eq!(look("b", true, 111).writes.len(), 2);
    }
}
