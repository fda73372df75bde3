//! Watches over the nodes: who stopped reporting is marked, tainted, and in
//! time relieved of its pods.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};
use crate::{Reconciler, pods};

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

/// Marks nodes by their heartbeat; keyed by node.
pub struct NodeHealth {
    /// Silence after which a node counts as lost.
    pub grace: Duration,
    /// When each node's lease was last seen to change, by our own clock, so
    /// that a node with a wrong clock is judged by its beat and not by its time.
    seen: Mutex<BTreeMap<String, (Option<Timestamp>, Timestamp)>>,
}

impl NodeHealth {
    /// Counts a node as lost after `grace` without a heartbeat.
    pub fn new(grace: Duration) -> Self {
        Self {
            grace,
            seen: Mutex::default(),
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
        let ready = if lost { "Unknown" } else { ready_status(&node) };
        retaint(&node, ready, &mut plan, now);
        if ready != "True" {
            mark_pods(&key.name, view, &mut plan, now);
        }
        plan
    }
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

/// Brings the taints that stand for conditions in line with the conditions.
fn retaint(node: &Node, ready: &str, plan: &mut Plan, now: Timestamp) {
    let spec = node.spec.clone().unwrap_or_default();
    let mut wanted: Vec<(&str, &str)> = Vec::new();
    match ready {
        "True" => {}
        "False" => wanted.extend([(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        _ => wanted.extend([(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")]),
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

/// Takes the pods of a node that is not ready out of service.
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

/// Evicts pods from nodes whose `NoExecute` taints they do not tolerate; keyed by pod.
pub struct TaintEviction;

impl Reconciler for TaintEviction {
    const NAME: &'static str = "taint-eviction-controller";

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
