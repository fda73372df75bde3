//! A host port can be had once.

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const REASON: &str = "node(s) didn't have free ports for the requested pod ports";

pub(super) struct NodePorts;

impl Plugin for NodePorts {
    fn name(&self) -> &'static str {
        "NodePorts"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        if pod.host_ports.is_empty() {
            return Vec::new();
        }
        let taken = node.pods.values().flat_map(|other| &other.host_ports);
        let collides = taken
            .into_iter()
            .any(|port| pod.host_ports.iter().any(|mine| mine.collides(port)));
        if collides {
            vec![REASON.to_owned()]
        } else {
            Vec::new()
        }
    }

    fn others_matter(&self) -> bool {
        true
    }
}
