//! Gives every node its share of the pod ranges.

use api::cidr::Cidr;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::json;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

/// Hands out ranges of pod addresses; keyed by node. Runs with one worker, as
/// two at once could hand out the same range.
pub struct NodeRanges {
    /// The cluster's pod ranges, the primary family's first, each with the
    /// prefix length of a node's share.
    pub shares: Vec<(Cidr, u8)>,
}

impl Reconciler for NodeRanges {
    const NAME: &'static str = "node-ipam-controller";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(node) = view.nodes.get("", &key.name) else {
            return plan;
        };
        if !ranges_of(&node).is_empty() {
            return plan;
        }
        let taken: Vec<Cidr> = view
            .nodes
            .list()
            .iter()
            .flat_map(|other| ranges_of(other))
            .collect();
        let share = |(all, bits): &(Cidr, u8)| free(*all, *bits, &taken).map(|range| range.to_string());
        let ranges: Option<Vec<String>> = self.shares.iter().map(share).collect();
        match ranges {
            Some(ranges) => {
                plan.write(Write::merge(
                    node.as_ref(),
                    json!({"spec": {"podCIDR": ranges.first(), "podCIDRs": ranges}}),
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

/// The first range of `bits` in `all` that shares no address with one that is taken.
fn free(all: Cidr, bits: u8, taken: &[Cidr]) -> Option<Cidr> {
    let size = Cidr::new(all.base(), bits).size();
    let taken: Vec<&Cidr> = taken.iter().filter(|other| other.overlaps(&all)).collect();
    (0..all.size() / size)
        .filter_map(|n| Some(Cidr::new(all.nth(n * size)?, bits)))
        .find(|range| !taken.iter().any(|other| other.overlaps(range)))
}

/// The node's ranges that make sense.
fn ranges_of(node: &Node) -> Vec<Cidr> {
    let spec = node.spec.as_ref();
    let listed = spec
        .and_then(|spec| spec.pod_cidrs.as_deref())
        .unwrap_or_default();
    let single = spec.and_then(|spec| spec.pod_cidr.as_ref());
    let ranges = listed.iter().chain(single.filter(|_| listed.is_empty()));
    ranges.filter_map(|range| range.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::NodeSpec;
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
            shares: vec![("10.64.0.0/10".parse().unwrap(), 20)],
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
            shares: vec![("10.64.0.0/20".parse().unwrap(), 20)],
        };
        let view = View::empty();
        view.nodes.apply(node("a", Some("10.64.0.0/20")));
        view.nodes.apply(node("b", None));
        let plan = ranges.reconcile(&Key::new("", "b"), &view, Timestamp::UNIX_EPOCH);
        assert!(plan.writes.is_empty());
        assert_eq!(plan.events[0].1.reason, "CIDRNotAvailable");
    }

    #[test]
    fn a_node_gets_a_range_of_each_family() {
        let ranges = NodeRanges {
            shares: vec![
                ("10.64.0.0/10".parse().unwrap(), 20),
                ("fd00:64::/64".parse().unwrap(), 112),
            ],
        };
        let view = View::empty();
        let mut first = node("a", Some("10.64.0.0/20"));
        first.spec.as_mut().unwrap().pod_cidrs = Some(vec!["10.64.0.0/20".into(), "fd00:64::/112".into()]);
        view.nodes.apply(first);
        view.nodes.apply(node("b", None));
        let plan = ranges.reconcile(&Key::new("", "b"), &view, Timestamp::UNIX_EPOCH);
        let Some(Write::Patch(_, _, patch)) = plan.writes.first() else {
            panic!("{plan:?}")
        };
        assert_eq!(patch["spec"]["podCIDR"], "10.64.16.0/20");
        assert_eq!(
            patch["spec"]["podCIDRs"],
            json!(["10.64.16.0/20", "fd00:64::1:0/112"])
        );
    }
}
