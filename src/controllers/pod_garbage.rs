//! Removes pods that nobody will ever finish: those of nodes that are gone.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

/// How long a node may be missing before its pods go with it: it may only just be
/// registering, or come back after somebody deleted it.
const PATIENCE: Duration = Duration::from_secs(40);

/// Removes orphaned pods; keyed by pod.
#[derive(Default)]
pub struct OrphanedPods {
    /// Since when each node with pods has been missing.
    missing: Mutex<BTreeMap<String, Timestamp>>,
}

impl OrphanedPods {
    /// How long the node has been missing; `None` while it is there.
    fn missing_for(&self, node: &str, view: &View, now: Timestamp) -> Option<Duration> {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if view.nodes.get("", node).is_some() {
            missing.remove(node);
            return None;
        }
        let since = *missing.entry(node.to_owned()).or_insert(now);
        Some(Duration::try_from(now.duration_since(since)).unwrap_or_default())
    }
}

impl Reconciler for OrphanedPods {
    const NAME: &'static str = "pod-garbage-collector";
    const QUEUE: &'static str = "orphaned_pods_nodes";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(pod) = view.pods.get(&key.namespace, &key.name) else {
            return plan;
        };
        let node = pods::node_of(&pod);
        if node.is_empty() {
            if is_going(pod.as_ref()) {
                plan.write(at_once(&pod));
            }
            return plan;
        }
        match self.missing_for(node, view, now) {
            None => {}
            Some(waited) if waited < PATIENCE => plan.look_again(PATIENCE - waited),
            Some(_) => {
                if !pods::is_finished(&pod) {
                    let why = "PodGC: node no longer exists";
                    plan.write(pods::disrupted(&pod, "DeletionByPodGC", why, Some("Failed"), now));
                }
                plan.write(at_once(&pod));
            }
        }
        plan
    }
}

/// A deletion that waits for no node.
pub(crate) fn at_once(pod: &Pod) -> Write {
    let mut write = Write::delete(pod);
    if let Write::Delete { grace_seconds, .. } = &mut write {
        *grace_seconds = Some(0);
    }
    write
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Cache;
    use k8s_openapi::api::core::v1::Node;
    use serde_json::json;

    fn view(node: bool) -> View {
        let mut view = View::empty();
        let pod = json!({"metadata": {"name": "web", "namespace": "d", "uid": "u",
            "creationTimestamp": "2025-01-01T00:00:00Z"}, "spec": {"nodeName": "n1", "containers": []}});
        view.pods = Cache::fixed([serde_json::from_value(pod).unwrap()]);
        let named =
            |name: &str| -> Node { serde_json::from_value(json!({"metadata": {"name": name}})).unwrap() };
        view.nodes = Cache::fixed([named(if node { "n1" } else { "other" })]);
        view
    }

    #[test]
    fn the_pods_of_a_node_that_stays_away_are_removed() {
        let orphans = OrphanedPods::default();
        let at = |second: i64| Timestamp::from_second(1_767_225_600 + second).unwrap();
        let look = |view: &View, second| orphans.reconcile(&Key::new("d", "web"), view, at(second));
        assert_eq!(look(&view(true), 0), Plan::nothing());
        let first = look(&view(false), 10);
        assert!(first.writes.is_empty(), "an old pod waits as long as a young one");
        assert_eq!(first.again, Some(PATIENCE));
        // It came back, and went again: the time begins anew.
        assert_eq!(look(&view(true), 40), Plan::nothing());
        assert!(look(&view(false), 60).writes.is_empty());
        let last = look(&view(false), 100);
        let [Write::Patch(_, _, status), Write::Delete { grace_seconds, .. }] = last.writes.as_slice() else {
            panic!("{last:?}")
        };
        assert_eq!(status["status"]["phase"], "Failed");
        assert_eq!(*grace_seconds, Some(0));
    }
}
