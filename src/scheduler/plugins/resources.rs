//! A node takes only as much as it has; the emptier one is better.

use api::quantity::Quantity;

use crate::plugin::{Plugin, Refusal, SCORE_MAX};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const TOO_MANY_PODS: &str = "Too many pods";

pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        let mut refusals = Vec::new();
        let pods_max = node.allocatable.get("pods").map_or(i64::MAX, Quantity::value);
        if i64::try_from(node.pods.len()).unwrap_or(i64::MAX) >= pods_max {
            refusals.push(TOO_MANY_PODS.to_owned());
        }
        for (name, wanted) in pod.requests.iter().filter(|(_, wanted)| !wanted.is_zero()) {
            let mut sum = node.requested.get(name).copied().unwrap_or_default();
            sum += *wanted;
            if sum > node.allocatable.get(name).copied().unwrap_or_default() {
                refusals.push(format!("Insufficient {name}"));
            }
        }
        refusals
    }

    /// The mean share of cpu and memory that would be left.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> i64 {
        let free = |name: &str| SCORE_MAX - used_share(pod, node, name);
        (free("cpu") + free("memory")) / 2
    }

    fn weight(&self) -> i64 {
        1
    }

    fn others_matter(&self) -> bool {
        true
    }
}

/// The share of a resource in use with the pod on the node, 0 to [`SCORE_MAX`].
pub(super) fn used_share(pod: &PodInfo, node: &NodeInfo, name: &str) -> i64 {
    let amount = |amounts: &api::pod::Amounts| amounts.get(name).map_or(0.0, Quantity::as_f64);
    let total = amount(&node.allocatable);
    if total <= 0.0 {
        return SCORE_MAX;
    }
    let used = amount(&node.requested) + amount(&pod.requests);
    ((used / total).clamp(0.0, 1.0) * 100.0) as i64
}
