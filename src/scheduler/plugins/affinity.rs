//! Pods that want, or will not have, others near them.

use api::selector::LabelSelector;
use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec};

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const AFFINITY: &str = "node(s) didn't match pod affinity rules";
const ANTI_AFFINITY: &str = "node(s) didn't match pod anti-affinity rules";
const EXISTING: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

pub(super) struct InterPodAffinity;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, all: &Snapshot) -> Vec<Refusal> {
        let near = |term: &PodAffinityTerm, owner: &PodInfo| {
            neighbours(term, node, all).any(|other| is_meant(term, owner, other))
        };
        for term in wanted(pod.spec()) {
            // The first of a group that wants its own kind near may go anywhere the label is.
            let anywhere = all
                .nodes()
                .flat_map(|n| n.pods.values())
                .any(|other| is_meant(term, pod, other));
            let first = !anywhere && is_meant(term, pod, pod) && node.label(&term.topology_key).is_some();
            if !first && !near(term, pod) {
                return vec![AFFINITY.to_owned()];
            }
        }
        if shunned(pod.spec()).any(|term| near(term, pod)) {
            return vec![ANTI_AFFINITY.to_owned()];
        }
        let others = all
            .nodes()
            .flat_map(|n| n.pods.values().map(move |other| (n, other)));
        for (place, other) in others {
            for term in shunned(other.spec()) {
                let here = node.label(&term.topology_key);
                if here.is_some() && here == place.label(&term.topology_key) && is_meant(term, other, pod) {
                    return vec![EXISTING.to_owned()];
                }
            }
        }
        Vec::new()
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, all: &Snapshot) -> i64 {
        let affinity = pod.spec().affinity.as_ref();
        let near = |term: &PodAffinityTerm| {
            let count = neighbours(term, node, all)
                .filter(|other| is_meant(term, pod, other))
                .count();
            i64::try_from(count).unwrap_or(i64::MAX)
        };
        let liked = affinity
            .and_then(|a| a.pod_affinity.as_ref())
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let disliked = affinity
            .and_then(|a| a.pod_anti_affinity.as_ref())
            .and_then(|a| a.preferred_during_scheduling_ignored_during_execution.as_ref());
        let sum = |list: Option<&Vec<_>>| -> i64 {
            list.into_iter()
                .flatten()
                .map(|w: &k8s_openapi::api::core::v1::WeightedPodAffinityTerm| {
                    i64::from(w.weight) * near(&w.pod_affinity_term)
                })
                .sum()
        };
        sum(liked) - sum(disliked)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn others_matter(&self) -> bool {
        true
    }
}

fn wanted(spec: &PodSpec) -> impl Iterator<Item = &PodAffinityTerm> {
    let affinity = spec.affinity.as_ref().and_then(|a| a.pod_affinity.as_ref());
    affinity.into_iter().flat_map(|a| {
        a.required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
    })
}

fn shunned(spec: &PodSpec) -> impl Iterator<Item = &PodAffinityTerm> {
    let affinity = spec.affinity.as_ref().and_then(|a| a.pod_anti_affinity.as_ref());
    affinity.into_iter().flat_map(|a| {
        a.required_during_scheduling_ignored_during_execution
            .iter()
            .flatten()
    })
}

/// The pods in the node's domain of the term.
fn neighbours<'a>(
    term: &'a PodAffinityTerm,
    node: &'a NodeInfo,
    all: &'a Snapshot,
) -> impl Iterator<Item = &'a PodInfo> {
    let domain = node.label(&term.topology_key);
    all.nodes()
        .filter(move |n| domain.is_some() && n.label(&term.topology_key) == domain)
        .flat_map(|n| n.pods.values().map(|pod| &**pod))
}

/// Whether a term of `owner` speaks of `other`. Namespace selectors are taken
/// as "all namespaces", as the scheduler does not follow namespaces' labels.
fn is_meant(term: &PodAffinityTerm, owner: &PodInfo, other: &PodInfo) -> bool {
    let named = term.namespaces.as_deref().unwrap_or_default();
    let in_namespace = if term.namespace_selector.is_some() {
        true
    } else if named.is_empty() {
        other.namespace == owner.namespace
    } else {
        named.contains(&other.namespace)
    };
    in_namespace
        && LabelSelector::from_typed(term.label_selector.as_ref()).matches(&other.pod.metadata.labels)
}
