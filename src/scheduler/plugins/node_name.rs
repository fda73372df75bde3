//! A pod that names its node runs there or nowhere.

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const REASON: &str = "node(s) didn't match the requested node name";

pub(super) struct NodeName;

impl Plugin for NodeName {
    fn name(&self) -> &'static str {
        "NodeName"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        match pod.spec().node_name.as_deref() {
            Some(wanted) if !wanted.is_empty() && wanted != node.name() => vec![REASON.to_owned()],
            _ => Vec::new(),
        }
    }
}
