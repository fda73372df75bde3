//! Cpu and memory should run out together.

use super::resources::used_share;
use crate::plugin::{Plugin, SCORE_MAX};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct NodeResourcesBalancedAllocation;

impl Plugin for NodeResourcesBalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> i64 {
        SCORE_MAX - (used_share(pod, node, "cpu") - used_share(pod, node, "memory")).abs()
    }

    fn weight(&self) -> i64 {
        1
    }
}
