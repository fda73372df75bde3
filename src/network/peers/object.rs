//! Peers from Node objects.

use std::net::IpAddr;
use std::sync::Arc;

use api::cidr::{Cidr, Ranges};
use k8s_openapi::api::core::v1::Node;

use super::{Peer, PodRouting};

/// On a Node: how it wants packets between its pods and those of others to
/// travel, `auto`, `routes` or `vxlan`.
pub const ROUTING_ANNOTATION: &str = "coracle.dev/pod-routing";

/// All nodes but `me` that have a range and an address, by name.
pub(super) fn peers(nodes: &[Arc<Node>], me: &str) -> Vec<Peer> {
    let mut peers: Vec<Peer> = nodes.iter().filter_map(|node| peer(node)).collect();
    peers.retain(|peer| peer.name != me);
    peers.sort_by(|a, b| a.name.cmp(&b.name));
    peers
}

fn peer(node: &Node) -> Option<Peer> {
    let spec = node.spec.as_ref()?;
    let listed = spec.pod_cidrs.as_deref().unwrap_or_default();
    let single = spec.pod_cidr.as_ref().filter(|_| listed.is_empty());
    let ranges: Vec<Cidr> = listed
        .iter()
        .chain(single)
        .filter_map(|range| range.parse().ok())
        .collect();
    let annotations = node.metadata.annotations.as_ref();
    let routing = annotations.and_then(|all| all.get(ROUTING_ANNOTATION)?.parse::<PodRouting>().ok());
    Some(Peer {
        name: node.metadata.name.clone()?,
        ranges: Ranges::new(&ranges)?,
        addresses: Some(addresses(node)).filter(|addresses| !addresses.is_empty())?,
        routing: routing.unwrap_or_default(),
    })
}

/// The first `InternalIP` of each family.
fn addresses(node: &Node) -> Vec<IpAddr> {
    let listed = node
        .status
        .iter()
        .flat_map(|status| status.addresses.iter().flatten());
    let internal = listed.filter(|address| address.type_ == "InternalIP");
    let mut found: Vec<IpAddr> = Vec::new();
    for address in internal.filter_map(|address| address.address.parse::<IpAddr>().ok()) {
        if !found.iter().any(|other| other.is_ipv6() == address.is_ipv6()) {
            found.push(address);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn node(name: &str, ranges: &[&str], addresses: &[&str]) -> Arc<Node> {
        let listed: Vec<_> = addresses
            .iter()
            .map(|a| json!({"type": "InternalIP", "address": a}))
            .collect();
        let node = json!({
            "metadata": {"name": name, "annotations": {ROUTING_ANNOTATION: "vxlan"}},
            "spec": {"podCIDRs": ranges},
            "status": {"addresses": listed},
        });
        Arc::new(serde_json::from_value(node).unwrap())
    }

    #[test]
    fn others_with_range_and_address_are_peers() {
        let two = ["10.64.16.0/20", "fd00:64::1:0/112"];
        let nodes = [
            node("me", &["10.64.0.0/20"], &["192.0.2.1"]),
            node("b", &two, &["192.0.2.2", "192.0.2.3", "2001:db8::2"]),
            node("new", &[], &["192.0.2.4"]),
            node("unknown", &["10.64.32.0/20"], &[]),
        ];
        let peers = peers(&nodes, "me");
        assert_eq!(peers.len(), 1);
        assert_eq!(peers[0].name, "b");
        assert_eq!(peers[0].ranges.to_string(), two.join(","));
        let addresses: Vec<String> = peers[0].addresses.iter().map(IpAddr::to_string).collect();
        assert_eq!(addresses, ["192.0.2.2", "2001:db8::2"]);
        assert_eq!(peers[0].routing, PodRouting::Vxlan);
    }
}
