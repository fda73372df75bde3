//! Pods of a kind spread over hosts and zones.

use std::collections::BTreeMap;

use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::TopologySpreadConstraint;

use super::taints::untolerated;
use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const SKEWED: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

pub(super) struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, all: &Snapshot) -> Vec<Refusal> {
        let constraints = pod.spec().topology_spread_constraints.iter().flatten();
        for constraint in constraints.filter(|c| c.when_unsatisfiable == "DoNotSchedule") {
            let Some(domain) = node.label(&constraint.topology_key) else {
                return vec![NO_LABEL.to_owned()];
            };
            let counts = count(pod, constraint, all);
            let domains = i32::try_from(counts.len()).unwrap_or(i32::MAX);
            let too_few = constraint.min_domains.is_some_and(|min| domains < min);
            let least = if too_few {
                0
            } else {
                counts.values().copied().min().unwrap_or(0)
            };
            let own = i64::from(selector(pod, constraint).matches(&pod.pod.metadata.labels));
            let here = counts.get(domain).copied().unwrap_or(0);
            if here + own - least > i64::from(constraint.max_skew) {
                return vec![SKEWED.to_owned()];
            }
        }
        Vec::new()
    }

    /// Fewer like it in the node's domains are better; without constraints of
    /// its own, a pod spreads from its siblings over hosts and zones.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, all: &Snapshot) -> i64 {
        let soft: Vec<&TopologySpreadConstraint> = pod
            .spec()
            .topology_spread_constraints
            .iter()
            .flatten()
            .filter(|c| c.when_unsatisfiable == "ScheduleAnyway")
            .collect();
        if pod
            .spec()
            .topology_spread_constraints
            .as_ref()
            .is_some_and(|list| !list.is_empty())
        {
            return soft
                .iter()
                .map(|c| {
                    let counts = count(pod, c, all);
                    node.label(&c.topology_key)
                        .map_or(i64::from(i32::MIN), |d| -counts.get(d).copied().unwrap_or(0))
                })
                .sum();
        }
        let siblings = |info: &NodeInfo| {
            info.pods
                .values()
                .filter(|other| are_siblings(pod, other))
                .count()
        };
        let here = siblings(node);
        let zone = node.label("topology.kubernetes.io/zone");
        let in_zone: usize = match zone {
            Some(_) => {
                let same = all
                    .nodes()
                    .filter(|n| n.label("topology.kubernetes.io/zone") == zone);
                same.map(siblings).sum()
            }
            None => 0,
        };
        -i64::try_from(here * 2 + in_zone).unwrap_or(i64::MAX)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn others_matter(&self) -> bool {
        true
    }
}

fn are_siblings(a: &PodInfo, b: &PodInfo) -> bool {
    let owner = |pod: &PodInfo| {
        let owners = pod.pod.metadata.owner_references.iter().flatten();
        owners
            .into_iter()
            .find(|o| o.controller == Some(true))
            .map(|o| o.uid.clone())
    };
    owner(a).is_some() && owner(a) == owner(b)
}

fn selector(pod: &PodInfo, constraint: &TopologySpreadConstraint) -> LabelSelector {
    let mut typed = constraint.label_selector.clone().unwrap_or_default();
    let labels = pod.pod.metadata.labels.clone().unwrap_or_default();
    for key in constraint.match_label_keys.iter().flatten() {
        if let Some(value) = labels.get(key) {
            typed
                .match_labels
                .get_or_insert_default()
                .insert(key.clone(), value.clone());
        }
    }
    let chosen = constraint.label_selector.is_some().then_some(&typed);
    LabelSelector::from_typed(chosen)
}

/// Whether what is on a node counts. One that lacks the label of any constraint of the same sort is in no domain.
fn counts_in(pod: &PodInfo, constraint: &TopologySpreadConstraint, node: &NodeInfo) -> bool {
    let all = pod.spec().topology_spread_constraints.iter().flatten();
    let mut same = all.filter(|other| other.when_unsatisfiable == constraint.when_unsatisfiable);
    if same.any(|other| node.label(&other.topology_key).is_none()) {
        return false;
    }
    let by_affinity = constraint.node_affinity_policy.as_deref() != Some("Ignore");
    if by_affinity && !api::pod::fits_node(pod.spec(), &node.node) {
        return false;
    }
    constraint.node_taints_policy.as_deref() != Some("Honor") || untolerated(pod, node).is_none()
}

/// How many pods like this one each domain has, over the nodes that count.
fn count<'a>(
    pod: &PodInfo,
    constraint: &TopologySpreadConstraint,
    all: &'a Snapshot,
) -> BTreeMap<&'a str, i64> {
    let selector = selector(pod, constraint);
    let mut counts = BTreeMap::new();
    for node in all.nodes() {
        let Some(domain) = node.label(&constraint.topology_key) else {
            continue;
        };
        if !counts_in(pod, constraint, node) {
            continue;
        }
        let alike = node.pods.values().filter(|other| {
            other.namespace == pod.namespace
                && other.pod.metadata.deletion_timestamp.is_none()
                && selector.matches(&other.pod.metadata.labels)
        });
        *counts.entry(domain).or_insert(0) += i64::try_from(alike.count()).unwrap_or(i64::MAX);
    }
    counts
}
