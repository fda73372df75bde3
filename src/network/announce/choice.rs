//! Which node has an address: the same answer on every node, and another one
//! only for the addresses of a node that came or went.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::Node;

/// Nodes with this label keep out.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The name of a node that may have addresses: it is ready, and was not told
/// to keep out.
pub(super) fn able(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref();
    let excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED));
    let status = node.status.as_ref()?;
    let mut conditions = status.conditions.iter().flatten();
    let ready = conditions.any(|c| c.type_ == "Ready" && c.status == "True");
    let going = node.metadata.deletion_timestamp.is_some();
    node.metadata
        .name
        .as_deref()
        .filter(|_| ready && !excluded && !going)
}

/// Of these nodes the one that has the address: for each address, every node
/// has a weight of its own (rendezvous hashing).
pub(super) fn choose<'a>(address: IpAddr, nodes: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    nodes.max_by_key(|node| (weight(address, node), *node))
}

/// FNV-1a with a final mix. All versions of all nodes must agree on it.
fn weight(address: IpAddr, node: &str) -> u64 {
    let text = format!("{address} {node}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    mixed ^ (mixed >> 33)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::core::v1::{NodeCondition, NodeStatus};

    use super::*;

    fn addresses() -> impl Iterator<Item = IpAddr> {
        (0..200u8).map(|n| [203, 0, 113, n].into())
    }

    #[test]
    fn every_node_has_some_and_only_those_of_a_lost_one_move() {
        let all = ["a", "b", "c", "d"];
        let mut count: BTreeMap<&str, usize> = BTreeMap::new();
        for address in addresses() {
            let chosen = choose(address, all.into_iter()).unwrap();
            *count.entry(chosen).or_default() += 1;
            let without = choose(address, all.into_iter().filter(|node| *node != "c")).unwrap();
            assert!(chosen == "c" || chosen == without);
            assert_eq!(choose(address, all.into_iter().rev()), Some(chosen));
        }
        assert!(count.len() == 4 && count.values().all(|n| *n > 25), "{count:?}");
        assert_eq!(choose([203, 0, 113, 1].into(), std::iter::empty()), None);
    }

    #[test]
    fn only_nodes_that_are_ready_and_not_excluded_may() {
        let node = |status: &str, label: Option<&str>| {
            let mut node = Node::default();
            node.metadata.name = Some("a".into());
            node.metadata.labels = label.map(|label| [(label.to_string(), String::new())].into());
            let ready = NodeCondition {
                type_: "Ready".into(),
                status: status.into(),
                ..NodeCondition::default()
            };
            node.status = Some(NodeStatus {
                conditions: Some(vec![ready]),
                ..NodeStatus::default()
            });
            node
        };
        assert_eq!(able(&node("True", None)), Some("a"));
        assert_eq!(able(&node("Unknown", None)), None);
        assert_eq!(able(&node("True", Some(EXCLUDED))), None);
        assert_eq!(able(&Node::default()), None);
    }
}
