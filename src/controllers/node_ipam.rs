//! Gives every node its share of the pod range.

use std::net::Ipv4Addr;

use jiff::Timestamp;
use serde_json::json;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

/// Hands out ranges of pod addresses; keyed by node. Runs with one worker, as
/// two at once could hand out the same range.
pub struct NodeRanges {
    /// First address of the cluster's pod range.
    pub network: Ipv4Addr,
    /// Its prefix length.
    pub bits: u8,
    /// Prefix length of a node's share.
    pub node_bits: u8,
}

impl Reconciler for NodeRanges {
    const NAME: &'static str = "node-ipam-controller";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(node) = view.nodes.get("", &key.name) else {
            return plan;
        };
        if range_of(&node).is_some() {
            return plan;
        }
        let taken: Vec<String> = view
            .nodes
            .list()
            .iter()
            .filter_map(|other| range_of(other).map(str::to_owned))
            .collect();
        match self.ranges().find(|range| !taken.contains(range)) {
            Some(range) => {
                plan.write(Write::merge(
                    node.as_ref(),
                    json!({"spec": {"podCIDR": range, "podCIDRs": [range]}}),
                ));
            }
            None => plan.tell(
                node.as_ref(),
                client::EventType::Warning,
                "CIDRNotAvailable",
                format!("Node {} status is now: CIDRNotAvailable", key.name),
            ),
        }
        plan
    }
}

impl NodeRanges {
    fn ranges(&self) -> impl Iterator<Item = String> + '_ {
        let count = 1u64 << self.node_bits.saturating_sub(self.bits);
        let size = 1u64 << (32 - self.node_bits.min(32));
        let first = u64::from(u32::from(self.network));
        (0..count).filter_map(move |n| {
            let address = u32::try_from(first + n * size).ok()?;
            Some(format!("{}/{}", Ipv4Addr::from(address), self.node_bits))
        })
    }
}

fn range_of(node: &k8s_openapi::api::core::v1::Node) -> Option<&str> {
    node.spec
        .as_ref()?
        .pod_cidr
        .as_deref()
        .filter(|range| !range.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{Node, NodeSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    fn node(name: &str, range: Option<&str>) -> Node {
        Node {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                ..ObjectMeta::default()
            },
            spec: Some(NodeSpec {
                pod_cidr: range.map(str::to_owned),
                ..NodeSpec::default()
            }),
            status: None,
        }
    }

    #[test]
    fn a_new_node_gets_the_first_free_range_and_keeps_it() {
        let ranges = NodeRanges {
            network: Ipv4Addr::new(10, 64, 0, 0),
            bits: 10,
            node_bits: 20,
        };
        let view = View::empty();
        view.nodes.apply(node("a", Some("10.64.0.0/20")));
        view.nodes.apply(node("b", None));
        let plan = ranges.reconcile(&Key::new("", "b"), &view, Timestamp::UNIX_EPOCH);
        let Some(Write::Patch(_, _, patch)) = plan.writes.first() else {
            panic!("{plan:?}")
        };
        assert_eq!(patch["spec"]["podCIDR"], "10.64.16.0/20");
        assert!(
            ranges
                .reconcile(&Key::new("", "a"), &view, Timestamp::UNIX_EPOCH)
                .writes
                .is_empty()
        );
    }

    #[test]
    fn an_exhausted_range_is_told() {
        let ranges = NodeRanges {
            network: Ipv4Addr::new(10, 64, 0, 0),
            bits: 20,
            node_bits: 20,
        };
        let view = View::empty();
        view.nodes.apply(node("a", Some("10.64.0.0/20")));
        view.nodes.apply(node("b", None));
        let plan = ranges.reconcile(&Key::new("", "b"), &view, Timestamp::UNIX_EPOCH);
        assert!(plan.writes.is_empty());
        assert_eq!(plan.events[0].1.reason, "CIDRNotAvailable");
    }
}
