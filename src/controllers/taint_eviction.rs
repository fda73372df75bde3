//! Takes pods off nodes whose `NoExecute` taints they do not tolerate, when
//! their time is over.

use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// Evicts pods from nodes whose `NoExecute` taints they do not tolerate; keyed by pod.
pub struct TaintEviction;

impl Reconciler for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";
    const QUEUE: &'static str = "noexec_taint_pod";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(pod) = view.pods.get(&key.namespace, &key.name) else {
            return plan;
        };
        if is_going(pod.as_ref()) || pods::is_finished(&pod) {
            return plan;
        }
        let Some(node) = view.nodes.get("", pods::node_of(&pod)) else {
            return plan;
        };
        match time_left(&pod, &node, now) {
            None => {}
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

/// How long the pod may stay; `None` for ever.
fn time_left(pod: &Pod, node: &Node, now: Timestamp) -> Option<Duration> {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.tolerations.clone())
        .unwrap_or_default();
    let mut left: Option<Duration> = None;
    for taint in taints.filter(|taint| taint.effect == "NoExecute") {
        let matching: Vec<_> = tolerations
            .iter()
            .filter(|t| api::pod::tolerates(t, taint))
            .collect();
        let allowed = match matching
            .iter()
            .map(|t| t.toleration_seconds)
            .min_by_key(|s| s.unwrap_or(i64::MAX))
        {
            None => Duration::ZERO,
            Some(None) => continue,
            Some(Some(seconds)) => Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        };
        let since = taint.time_added.as_ref().map_or(now, |t| t.0);
        let passed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
        let this = allowed.saturating_sub(passed);
        left = Some(left.map_or(this, |before| before.min(this)));
    }
    left
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
        TaintEviction.reconcile(&Key::new("d", "web"), &view, now)
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
}
