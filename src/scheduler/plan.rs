//! The decision: which node, or why none.

use std::collections::BTreeMap;

use crate::plugin::{Plugin, SCORE_MAX};
use crate::plugins;
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

/// What was decided about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It goes to this node.
    Node(String),
    /// No node will do; the text says why, as `kubectl describe` shows it.
    Nowhere(String),
}

/// Chooses a node. `turn` breaks ties, so that equal nodes take turns; the
/// same arguments always give the same choice.
pub fn choose(pod: &PodInfo, snapshot: &Snapshot, turn: u64) -> Choice {
    if snapshot.is_empty() {
        return Choice::Nowhere("no nodes available to schedule pods".to_owned());
    }
    let everywhere = plugins::all()
        .iter()
        .find_map(|plugin| plugin.refuse(pod, snapshot));
    if let Some(why) = everywhere {
        return Choice::Nowhere(nowhere(&why, snapshot.len()));
    }
    let mut refusals = Refusals::default();
    let fitting: Vec<&NodeInfo> = snapshot
        .nodes()
        .filter(|node| refusals.ask(pod, node, snapshot))
        .collect();
    match fitting.as_slice() {
        [] => Choice::Nowhere(refusals.text(snapshot.len())),
        [only] => Choice::Node(only.name().to_owned()),
        many => Choice::Node(best(pod, many, snapshot, turn)),
    }
}

/// What is said when the pod itself is not ready to be placed.
fn nowhere(why: &str, nodes: usize) -> String {
    let all = format!("0/{nodes} nodes are available");
    format!("{all}: {why}. preemption: {all}: {nodes} Preemption is not helpful for scheduling.")
}

/// Who refused, and why.
#[derive(Default)]
struct Refusals {
    reasons: BTreeMap<String, usize>,
    hopeless: usize,
    by_others: usize,
}

impl Refusals {
    /// Whether all plugins let the pod on the node; the first that does not has its reasons counted.
    fn ask(&mut self, pod: &PodInfo, node: &NodeInfo, snapshot: &Snapshot) -> bool {
        for plugin in plugins::all() {
            let reasons = plugin.filter(pod, node, snapshot);
            if reasons.is_empty() {
                continue;
            }
            if plugin.others_matter() {
                self.by_others += 1;
            } else {
                self.hopeless += 1;
            }
            for reason in reasons {
                *self.reasons.entry(reason).or_default() += 1;
            }
            return false;
        }
        true
    }

    fn text(&self, nodes: usize) -> String {
        let mut parts: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, n)| format!("{n} {reason}"))
            .collect();
        parts.sort_unstable();
        let mut preemption = Vec::new();
        if self.by_others > 0 {
            preemption.push(format!(
                "{} No preemption victims found for incoming pod",
                self.by_others
            ));
        }
        if self.hopeless > 0 {
            preemption.push(format!(
                "{} Preemption is not helpful for scheduling",
                self.hopeless
            ));
        }
        format!(
            "0/{nodes} nodes are available: {}. preemption: 0/{nodes} nodes are available: {}.",
            parts.join(", "),
            preemption.join(", ")
        )
    }
}

fn best(pod: &PodInfo, nodes: &[&NodeInfo], snapshot: &Snapshot, turn: u64) -> String {
    let mut totals = vec![0i64; nodes.len()];
    for plugin in plugins::all().iter().filter(|plugin| plugin.weight() > 0) {
        for (total, score) in totals.iter_mut().zip(stretched(*plugin, pod, nodes, snapshot)) {
            *total += score * plugin.weight();
        }
    }
    let top = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<&NodeInfo> = nodes
        .iter()
        .zip(&totals)
        .filter(|(_, total)| **total == top)
        .map(|(node, _)| *node)
        .collect();
    let at = usize::try_from(turn).unwrap_or(0) % winners.len().max(1);
    winners
        .get(at)
        .map(|node| node.name().to_owned())
        .unwrap_or_default()
}

/// A plugin's scores, stretched so that its best node has [`SCORE_MAX`] and its worst 0.
fn stretched(plugin: &dyn Plugin, pod: &PodInfo, nodes: &[&NodeInfo], snapshot: &Snapshot) -> Vec<i64> {
    let raw: Vec<i64> = nodes
        .iter()
        .map(|node| plugin.score(pod, node, snapshot))
        .collect();
    let (low, high) = (
        raw.iter().copied().min().unwrap_or(0),
        raw.iter().copied().max().unwrap_or(0),
    );
    let span = high.saturating_sub(low);
    if span == 0 {
        return vec![SCORE_MAX; raw.len()];
    }
    raw.into_iter()
        .map(|score| score.saturating_sub(low).saturating_mul(SCORE_MAX) / span)
        .collect()
}

/// Why no node will do, for tests.
#[cfg(test)]
pub(crate) fn refusal(pod: &PodInfo, snapshot: &Snapshot) -> String {
    match choose(pod, snapshot, 0) {
        Choice::Nowhere(text) => text,
        Choice::Node(name) => panic!("chose {name}"),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{Node, Pod};
    use serde_json::{Value, json};

    use super::*;

    fn node(name: &str, more: Value) -> Arc<Node> {
        let mut node = json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "spec": {},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}},
        });
        merge(&mut node, more);
        Arc::new(serde_json::from_value(node).unwrap())
    }

    fn merge(into: &mut Value, from: Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                from.into_iter()
                    .for_each(|(k, v)| merge(into.entry(k).or_insert(Value::Null), v));
            }
            (into, from) => *into = from,
        }
    }

    fn pod(name: &str, spec: Value) -> Arc<PodInfo> {
        let mut base = json!({"containers": [{"name": "c"}]});
        merge(&mut base, spec);
        let pod = json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "labels": {"app": "x"}},
            "spec": base,
        });
        let pod: Pod = serde_json::from_value(pod).unwrap();
        Arc::new(PodInfo::new(Arc::new(pod)))
    }

    fn wants(cpu: &str) -> Value {
        json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
    }

    fn cluster(nodes: Vec<Arc<Node>>) -> Snapshot {
        let mut snapshot = Snapshot::default();
        nodes.into_iter().for_each(|node| snapshot.set_node(node));
        snapshot
    }

    #[test]
    fn a_pod_too_large_is_told_so() {
        let snapshot = cluster(vec![node("a", json!({})), node("b", json!({}))]);
        assert_eq!(
            refusal(&pod("p", wants("3")), &snapshot),
            "0/2 nodes are available: 2 Insufficient cpu. preemption: 0/2 nodes are available: \
             2 No preemption victims found for incoming pod."
        );
    }

    #[test]
    fn constraints_say_which_nodes_count() {
        let tainted = json!({"spec": {"taints": [{"key": "k", "effect": "NoSchedule"}]}});
        let mut snapshot = cluster(vec![
            node("a", json!({"metadata": {"labels": {"disk": "ssd"}}})),
            node("b", json!({"metadata": {"labels": {"disk": "hdd"}}})),
            node("c", tainted),
        ]);
        snapshot.assume(pod("first", json!({})), "a");
        let spread = |more: Value, selector: Value| {
            let mut constraint = json!({"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}});
            merge(&mut constraint, more);
            pod(
                "p",
                json!({"topologySpreadConstraints": [constraint], "nodeSelector": selector}),
            )
        };
        let on_a = json!({"disk": "ssd"});
        // The others are empty, but not for this pod.
        assert_eq!(
            choose(&spread(json!({}), on_a.clone()), &snapshot, 0),
            Choice::Node("a".into())
        );
        let all = spread(json!({"nodeAffinityPolicy": "Ignore"}), on_a);
        assert!(refusal(&all, &snapshot).contains("1 node(s) didn't match pod topology spread constraints"));
        snapshot.assume(pod("second", json!({})), "b");
        let but_tainted = spread(json!({"nodeTaintsPolicy": "Honor"}), json!({}));
        assert!(matches!(choose(&but_tainted, &snapshot, 0), Choice::Node(_)));
        let text = refusal(&spread(json!({}), json!({})), &snapshot);
        assert!(
            text.contains("2 node(s) didn't match pod topology spread constraints"),
            "{text}"
        );
    }

    #[test]
    fn claims_of_devices_are_waited_for() {
        let snapshot = cluster(vec![node("a", json!({}))]);
        let claims = |claim: Value| pod("p", json!({"resourceClaims": [claim]}));
        let by_template = claims(json!({"name": "gpu", "resourceClaimTemplateName": "gpus"}));
        let text = refusal(&by_template, &snapshot);
        assert!(
            text.contains("pod \"default/p\": ResourceClaim not created yet"),
            "{text}"
        );
        let text = refusal(
            &claims(json!({"name": "gpu", "resourceClaimName": "mine"})),
            &snapshot,
        );
        assert!(
            text.starts_with("0/1 nodes are available: 1 cannot allocate all claims."),
            "{text}"
        );
    }

    #[test]
    fn taints_selectors_and_cordons_refuse() {
        let tainted = json!({"spec": {"taints": [{"key": "k", "value": "v", "effect": "NoSchedule"}]}});
        let snapshot = cluster(vec![
            node("a", tainted),
            node("b", json!({"spec": {"unschedulable": true}})),
        ]);
        let text = refusal(&pod("p", json!({})), &snapshot);
        assert!(text.contains("1 node(s) had untolerated taint {k: v}"), "{text}");
        assert!(text.contains("1 node(s) were unschedulable"), "{text}");
        assert!(
            text.contains("2 Preemption is not helpful for scheduling"),
            "{text}"
        );

        let snapshot = cluster(vec![
            node("a", json!({"metadata": {"labels": {"disk": "ssd"}}})),
            node("b", json!({})),
        ]);
        let picky = pod("p", json!({"nodeSelector": {"disk": "ssd"}}));
        assert_eq!(choose(&picky, &snapshot, 0), Choice::Node("a".into()));
    }

    #[test]
    fn what_is_taken_counts_until_it_is_gone() {
        let mut snapshot = cluster(vec![node("a", json!({}))]);
        snapshot.assume(pod("first", wants("1500m")), "a");
        let second = pod("second", wants("1"));
        assert!(refusal(&second, &snapshot).contains("Insufficient cpu"));
        assert!(snapshot.remove_pod("first"));
        assert_eq!(choose(&second, &snapshot, 0), Choice::Node("a".into()));
    }

    #[test]
    fn the_emptier_node_wins_and_equals_take_turns() {
        let mut snapshot = cluster(vec![node("a", json!({})), node("b", json!({}))]);
        let small = pod("p", wants("100m"));
        assert_eq!(choose(&small, &snapshot, 0), Choice::Node("a".into()));
        assert_eq!(choose(&small, &snapshot, 1), Choice::Node("b".into()));
        snapshot.assume(pod("other", wants("1")), "a");
        assert_eq!(choose(&small, &snapshot, 0), Choice::Node("b".into()));
    }

    #[test]
    fn hard_spreading_and_anti_affinity_keep_pods_apart() {
        let mut snapshot = cluster(vec![node("a", json!({})), node("b", json!({}))]);
        let selector = json!({"matchLabels": {"app": "x"}});
        let spread = json!({"topologySpreadConstraints": [{
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": selector.clone(),
        }]});
        snapshot.assume(pod("one", json!({})), "a");
        assert_eq!(
            choose(&pod("two", spread), &snapshot, 0),
            Choice::Node("b".into())
        );

        let anti = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector},
        ]}}});
        snapshot.assume(pod("two", json!({})), "b");
        assert!(refusal(&pod("three", anti), &snapshot).contains("anti-affinity"));
    }

    #[test]
    fn host_ports_are_had_once() {
        let mut snapshot = cluster(vec![node("a", json!({}))]);
        let port = json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": 80}]}]});
        snapshot.assume(pod("one", port.clone()), "a");
        assert!(refusal(&pod("two", port), &snapshot).contains("free ports"));
    }
}
