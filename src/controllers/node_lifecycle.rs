//! Watches over the nodes: who stopped reporting is marked and tainted, and its
//! pods are taken out of service.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::plan::{Key, Plan, Write};
use crate::view::View;
use crate::{Reconciler, pods};
use zones::{Turns, Verdict};

mod zones;

pub use zones::EvictionPace;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Conditions that become a `NoSchedule` taint while they are true.
const PRESSURES: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// How often a node that is not ready is looked at again: whether its pods are evicted depends on the others.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Marks nodes by their heartbeat; keyed by node.
pub struct NodeHealth {
    /// Silence after which a node counts as lost.
    grace: Duration,
    /// How fast lost nodes are emptied.
    pace: EvictionPace,
    turns: Mutex<Turns>,
    /// When each node's lease was last seen to change, by our own clock, so
    /// that a node with a wrong clock is judged by its beat and not by its time.
    seen: Mutex<BTreeMap<String, (Option<Timestamp>, Timestamp)>>,
}

impl NodeHealth {
    /// Counts a node as lost after `grace` without a heartbeat, and empties lost ones at that pace.
    pub fn new(grace: Duration, pace: EvictionPace) -> Self {
        Self {
            grace,
            pace,
            turns: Mutex::default(),
            seen: Mutex::default(),
        }
    }

    /// Whether the pods of a lost node are evicted now. The node counts as lost whatever its condition says so far.
    fn evicts(&self, node: &Node, view: &View, plan: &mut Plan, now: Timestamp) -> bool {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let lost = |n: &Node| n.metadata.name.as_deref() == Some(name) || ready_status(n) != "True";
        match zones::judge(node, &view.nodes.list(), lost, &self.pace) {
            Verdict::Nobody => false,
            _ if is_evicting(node) => true,
            Verdict::NoFurther => false,
            Verdict::OneNodeEvery(distance) => {
                let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                let turn = turns.take(&zones::of(node), name, distance, now);
                turn.map_err(|wait| plan.look_again(wait)).is_ok()
            }
        }
    }

    fn silent_for(&self, node: &str, beat: Option<Timestamp>, now: Timestamp) -> Duration {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = seen.entry(node.to_owned()).or_insert((beat, now));
        if entry.0 != beat {
            *entry = (beat, now);
        }
        Duration::try_from(now.duration_since(entry.1)).unwrap_or_default()
    }
}

impl Reconciler for NodeHealth {
    const NAME: &'static str = "node-lifecycle-controller";
    const QUEUE: &'static str = "node_lifecycle_controller";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(node) = view.nodes.get("", &key.name) else {
            self.seen
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key.name);
            return plan;
        };
        let lease = view.leases.get("kube-node-lease", &key.name);
        let beat = lease.and_then(|l| l.spec.as_ref().and_then(|s| s.renew_time.as_ref().map(|t| t.0)));
        let silent = self.silent_for(&key.name, beat, now);
        let lost = silent >= self.grace;
        if lost {
            mark_lost(&node, &mut plan, now);
        } else {
            plan.look_again(self.grace - silent + Duration::from_millis(100));
        }
        let spoken = conditions(&node).any(|c| c.type_ == "Ready");
        let ready = match (lost, spoken) {
            (true, _) => "Unknown",
            // A new Node, perhaps in place of one that was deleted: its agent
            // is about to speak, and its pods may be there already.
            (false, false) => "False",
            (false, true) => ready_status(&node),
        };
        let evicting = ready != "True" && (lost || spoken) && self.evicts(&node, view, &mut plan, now);
        retaint(&node, ready, evicting, &mut plan, now);
        if ready != "True" {
            plan.look_again(LOOK_AGAIN);
        }
        // A node that still speaks says of its pods itself whether they are ready.
        if ready == "Unknown" {
            mark_pods(&key.name, view, &mut plan, now);
        }
        plan
    }
}

/// Whether its pods are being evicted already.
fn is_evicting(node: &Node) -> bool {
    let taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    taints
        .into_iter()
        .any(|taint| taint.effect == "NoExecute" && [NOT_READY, UNREACHABLE].contains(&taint.key.as_str()))
}

fn conditions(node: &Node) -> impl Iterator<Item = &NodeCondition> {
    node.status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten())
}

/// `True`, `False` or `Unknown`.
fn ready_status(node: &Node) -> &str {
    conditions(node)
        .find(|c| c.type_ == "Ready")
        .map_or("Unknown", |c| c.status.as_str())
}

/// Sets what the node can no longer say of itself to `Unknown`.
fn mark_lost(node: &Node, plan: &mut Plan, now: Timestamp) {
    if conditions(node).any(|c| c.type_ == "Ready") && ready_status(node) == "Unknown" {
        return;
    }
    let mut new = node.clone();
    let status = new.status.get_or_insert_default();
    let list = status.conditions.get_or_insert_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let heard = list
            .iter()
            .find(|c| c.type_ == kind)
            .and_then(|c| c.last_heartbeat_time.clone());
        let (reason, message) = match heard {
            Some(_) => ("NodeStatusUnknown", "Kubelet stopped posting node status."),
            None => ("NodeStatusNeverUpdated", "Kubelet never posted node status."),
        };
        list.retain(|c| c.type_ != kind);
        list.push(NodeCondition {
            type_: kind.to_owned(),
            status: "Unknown".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_heartbeat_time: heard,
            last_transition_time: Some(Time(now)),
        });
    }
    plan.write(Write::update_status(&new));
    let name = node.metadata.name.as_deref().unwrap_or_default();
    plan.tell(
        node,
        EventType::Normal,
        "NodeNotReady",
        format!("Node {name} status is now: NodeNotReady"),
    );
}

/// Brings the taints that stand for conditions in line with the conditions. Those that evict pods are
/// held back unless `evicting`.
fn retaint(node: &Node, ready: &str, evicting: bool, plan: &mut Plan, now: Timestamp) {
    let spec = node.spec.clone().unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    let trouble = match ready {
        "True" => None,
        "False" => Some(NOT_READY),
        _ => Some(UNREACHABLE),
    };
    if let Some(key) = trouble {
        wanted.push((key, "NoSchedule"));
        if evicting {
            wanted.push((key, "NoExecute"));
        }
    }
    if spec.unschedulable == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    for (condition, taint) in PRESSURES {
        if conditions(node).any(|c| c.type_ == condition && c.status == "True") {
            wanted.push((taint, "NoSchedule"));
        }
    }
    let before = spec.taints.unwrap_or_default();
    let is_ours = |taint: &Taint| {
        [NOT_READY, UNREACHABLE, UNSCHEDULABLE].contains(&taint.key.as_str())
            || PRESSURES.iter().any(|(_, key)| *key == taint.key)
    };
    let mut after: Vec<Taint> = before
        .iter()
        .filter(|taint| !is_ours(taint) || wanted.contains(&(taint.key.as_str(), taint.effect.as_str())))
        .cloned()
        .collect();
    for (key, effect) in wanted {
        if !after
            .iter()
            .any(|taint| taint.key == key && taint.effect == effect)
        {
            after.push(Taint {
                key: key.to_owned(),
                effect: effect.to_owned(),
                value: None,
                time_added: Some(Time(now)),
            });
        }
    }
    if after != before {
        let taints = if after.is_empty() {
            serde_json::Value::Null
        } else {
            json!(after)
        };
        // No precondition: the list is replaced whole, and the next look repairs what a race lost.
        plan.write(Write::merge(node, json!({"spec": {"taints": taints}})));
    }
}

/// Takes the pods of a node that says nothing any more out of service.
fn mark_pods(node: &str, view: &View, plan: &mut Plan, now: Timestamp) {
    for pod in view
        .pods
        .list()
        .iter()
        .filter(|pod| pods::node_of(pod) == node && pods::is_ready(pod))
    {
        let mut list = pod
            .status
            .as_ref()
            .and_then(|s| s.conditions.clone())
            .unwrap_or_default();
        for condition in list.iter_mut().filter(|c| c.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.reason = Some("NodeNotReady".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
        plan.write(Write::merge_status(
            pod.as_ref(),
            json!({"status": {"conditions": list}}),
        ));
        plan.tell(
            pod.as_ref(),
            EventType::Warning,
            "NodeNotReady",
            "Node is not ready".to_owned(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Cache;
    use serde_json::Value;

    fn node(name: &str, ready: &str) -> Node {
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"conditions": [
            {"type": "Ready", "status": ready, "lastHeartbeatTime": "2026-01-01T00:00:00Z"}]}}))
        .unwrap()
    }

    /// The effects of the taints that lost nodes have after a look at each, in order, `seconds` after they
    /// were seen for the first time.
    fn effects(health: &NodeHealth, view: &View, lost: &[&str], seconds: i64) -> Vec<usize> {
        let began: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let now = began + jiff::SignedDuration::from_secs(seconds);
        let tainted = lost.iter().map(|name| {
            let plan = health.reconcile(&Key::new("", *name), view, now);
            let taints = plan.writes.iter().find_map(|write| match write {
                Write::Patch(_, _, patch) => patch["spec"]["taints"].as_array().map(Vec::len),
                _ => None,
            });
            taints.unwrap_or(0)
        });
        tainted.collect()
    }

    #[test]
    fn lost_nodes_are_emptied_one_after_the_other() {
        let mut view = View::empty();
        view.nodes = Cache::fixed([
            node("a", "True"),
            node("b", "True"),
            node("c", "True"),
            node("d", "True"),
        ]);
        let health = NodeHealth::new(Duration::from_secs(40), EvictionPace::default());
        effects(&health, &view, &["a", "b"], 0);
        // Two taints are all of them, one keeps new pods away.
        assert_eq!(effects(&health, &view, &["a", "b"], 40), [2, 1]);
        assert_eq!(effects(&health, &view, &["a", "b"], 45), [2, 1]);
        assert_eq!(effects(&health, &view, &["b", "a"], 50), [2, 1]);
    }

    #[test]
    fn what_has_begun_goes_on_unless_all_are_lost() {
        let tainted = |name: &str| -> Node {
            let taints = json!([{"key": UNREACHABLE, "effect": "NoSchedule"}, {"key": UNREACHABLE, "effect": "NoExecute"}]);
            let mut node = node(name, "Unknown");
            node.spec.get_or_insert_default().taints = serde_json::from_value(taints).unwrap();
            node
        };
        let (bad, good) = (["b", "c", "d"].map(|n| node(n, "Unknown")), node("e", "True"));
        let mut view = View::empty();
        // Most of a small zone: no further node, but this one stays as it is.
        view.nodes = Cache::fixed(bad.clone().into_iter().chain([tainted("a"), good]));
        let health = NodeHealth::new(Duration::ZERO, EvictionPace::default());
        assert_eq!(effects(&health, &view, &["a"], 0), [0]);
        assert_eq!(effects(&health, &view, &["b"], 0), [1]);
        view.nodes = Cache::fixed(bad.into_iter().chain([tainted("a")]));
        assert_eq!(effects(&health, &view, &["a"], 0), [1]);
    }

    #[test]
    fn a_new_node_takes_no_pods_but_keeps_those_it_has() {
        let mut view = View::empty();
        let new: Node = serde_json::from_value(json!({"metadata": {"name": "new"}})).unwrap();
        view.nodes = Cache::fixed([new, node("other", "True")]);
        let health = NodeHealth::new(Duration::from_secs(40), EvictionPace::default());
        let plan = health.reconcile(
            &Key::new("", "new"),
            &view,
            "2026-01-01T00:00:00Z".parse().unwrap(),
        );
        let [Write::Patch(_, _, taints)] = plan.writes.as_slice() else {
            panic!("{plan:?}")
        };
        let taints = taints["spec"]["taints"].as_array().unwrap();
        let all: Vec<(&Value, &Value)> = taints.iter().map(|t| (&t["key"], &t["effect"])).collect();
        assert_eq!(all, [(&json!(NOT_READY), &json!("NoSchedule"))]);
    }

    /// The taints and the conditions that a silent node gets.
    fn silence(view: &View) -> (Value, Value) {
        let health = NodeHealth::new(Duration::from_secs(40), EvictionPace::default());
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let key = Key::new("", "quiet");
        assert!(
            health
                .reconcile(&key, view, at("2026-01-01T00:00:00Z"))
                .writes
                .is_empty()
        );
        let plan = health.reconcile(&key, view, at("2026-01-01T00:00:40Z"));
        let [Write::Update(_, status), Write::Patch(_, _, taints)] = plan.writes.as_slice() else {
            panic!("{plan:?}")
        };
        (
            status["status"]["conditions"].clone(),
            taints["spec"]["taints"].clone(),
        )
    }

    #[test]
    fn conditions_of_others_stay() {
        let mut quiet = node("quiet", "True");
        let theirs = NodeCondition {
            type_: "example.com/Blessed".into(),
            status: "True".into(),
            ..NodeCondition::default()
        };
        let status = quiet.status.get_or_insert_default();
        status.conditions.get_or_insert_default().push(theirs);
        let mut view = View::empty();
        view.nodes = Cache::fixed([quiet, node("other", "True")]);
        let (conditions, _) = silence(&view);
        let mut all = conditions.as_array().unwrap().iter();
        let found = all.find(|condition| condition["type"] == "example.com/Blessed");
        assert_eq!(found.unwrap()["status"], "True");
    }

    #[test]
    fn a_silent_node_is_unknown_and_tainted() {
        let mut view = View::empty();
        view.nodes = Cache::fixed([node("quiet", "True"), node("other", "True")]);
        let (conditions, taints) = silence(&view);
        assert_eq!(conditions[0]["status"], "Unknown");
        assert_eq!(conditions[0]["reason"], "NodeStatusUnknown");
        assert_eq!(conditions[0]["message"], "Kubelet stopped posting node status.");
        assert_eq!(conditions[1]["reason"], "NodeStatusNeverUpdated");
        let effects: Vec<&str> = taints
            .as_array()
            .unwrap()
            .iter()
            .map(|t| t["effect"].as_str().unwrap())
            .collect();
        assert_eq!(effects, ["NoSchedule", "NoExecute"]);
        assert_eq!(taints[0]["key"], UNREACHABLE);
        view.nodes = Cache::fixed([node("quiet", "True")]);
        let (_, taints) = silence(&view);
        assert_eq!(
            taints.as_array().unwrap().len(),
            1,
            "the only node keeps its pods"
        );
    }
}
