//! `nodeSelector` and node affinity.

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const REASON: &str = "node(s) didn't match Pod's node affinity/selector";

pub(super) struct NodeAffinity;

impl Plugin for NodeAffinity {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        if api::pod::fits_node(pod.spec(), &node.node) {
            Vec::new()
        } else {
            vec![REASON.to_owned()]
        }
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> i64 {
        api::pod::node_preference(pod.spec(), &node.node)
    }

    fn weight(&self) -> i64 {
        2
    }
}
