//! Which routes, neighbours and forwards other nodes' pods need. Pure.

use std::net::IpAddr;

use api::cidr::{Cidr, Ranges};
use sys::link::{Forward, Mac, Neighbour};

use super::{Peer, PodRouting};

/// This machine as the way to others depends on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Here {
    /// How packets are to travel.
    pub routing: PodRouting,
    /// Pods' addresses on this node.
    pub ranges: Ranges,
    /// From where vxlan packets are sent.
    pub node_ip: IpAddr,
    /// The machine's addresses, whoever made them.
    pub addresses: Vec<IpAddr>,
    /// Networks that the machine is on, each with its device.
    pub subnets: Vec<(Cidr, u32)>,
}

/// A route to a peer's pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    /// The pods.
    pub range: Cidr,
    /// The device; none is the vxlan's.
    pub link: Option<u32>,
    /// The next hop.
    pub gateway: IpAddr,
}

/// What there should be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// Routes to peers' pods.
    pub ways: Vec<Way>,
    /// Neighbours on the vxlan device.
    pub neighbours: Vec<Neighbour>,
    /// Where the vxlan device forwards. Not empty: there must be one.
    pub forwards: Vec<Forward>,
    /// Names of peers to which no way is known.
    pub unreachable: Vec<String>,
}

/// A node's place in the vxlan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Station {
    /// Hardware address of its device.
    pub mac: Mac,
    /// Identifier that its device receives.
    pub vni: u32,
}

/// A node's place in the vxlan follows from its first pod range: the hardware
/// address is `0e:c0` and the four bytes of the range's first address (of
/// IPv6: its words, each xored with the others), the identifier the last three
/// of those bytes. So nodes that share a machine have identifiers of their own.
pub(crate) fn station(ranges: &Ranges) -> Station {
    let four = match ranges.primary().base() {
        IpAddr::V4(base) => u32::from(base),
        IpAddr::V6(base) => {
            let all = u128::from(base);
            (0..4).fold(0, |sum, n| sum ^ (all >> (32 * n)) as u32)
        }
    };
    let [a, b, c, d] = four.to_be_bytes();
    Station {
        mac: [0x0e, 0xc0, a, b, c, d],
        // Zero is no identifier.
        vni: (four & 0xff_ffff).max(1),
    }
}

/// The node's own addresses in the vxlan: the first of each of its ranges,
/// which no pod has.
pub(crate) fn own_addresses(ranges: &Ranges) -> impl Iterator<Item = IpAddr> + use<> {
    ranges.iter().map(|range| range.base())
}

/// What other nodes' pods need here.
pub(crate) fn wanted(here: &Here, peers: &[Peer]) -> Wanted {
    let mut wanted = Wanted::default();
    for peer in peers {
        let mine = |address: &IpAddr| here.addresses.contains(address);
        // A node on this machine has routes of its own; a range that is ours is no one else's.
        if peer.addresses.iter().any(mine) || peer.ranges.overlaps(&here.ranges) {
            continue;
        }
        let overlay = [here.routing, peer.routing].contains(&PodRouting::Vxlan);
        let direct = if overlay { None } else { direct(here, peer) };
        match (direct, here.routing) {
            (Some(ways), _) => wanted.ways.extend(ways),
            (None, PodRouting::Routes) => wanted.unreachable.push(peer.name.clone()),
            (None, _) => over(here, peer, &mut wanted),
        }
    }
    wanted
}

/// A route for each of the peer's ranges by its address of the same family, if
/// all of them can have one.
fn direct(here: &Here, peer: &Peer) -> Option<Vec<Way>> {
    let way = |range: Cidr| {
        let same = |address: &&IpAddr| address.is_ipv6() == range.is_ipv6();
        let gateway = *peer.addresses.iter().find(same)?;
        let (_, link) = here.subnets.iter().find(|(subnet, _)| subnet.contains(gateway))?;
        Some(Way {
            range,
            link: Some(*link),
            gateway,
        })
    };
    peer.ranges.iter().map(way).collect()
}

/// What the peer needs in the vxlan.
fn over(here: &Here, peer: &Peer, wanted: &mut Wanted) {
    let same = |address: &&IpAddr| address.is_ipv6() == here.node_ip.is_ipv6();
    let Some(to) = peer.addresses.iter().find(same) else {
        wanted.unreachable.push(peer.name.clone());
        return;
    };
    let Station { mac, vni } = station(&peer.ranges);
    wanted.forwards.push(Forward { mac, to: *to, vni });
    for (range, address) in peer.ranges.iter().zip(own_addresses(&peer.ranges)) {
        wanted.neighbours.push(Neighbour { address, mac });
        wanted.ways.push(Way {
            range,
            link: None,
            gateway: address,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn here(routing: PodRouting) -> Here {
        Here {
            routing,
            ranges: "10.64.0.0/20,fd00:64::/112".parse().unwrap(),
            node_ip: [192, 0, 2, 10].into(),
            addresses: vec![[192, 0, 2, 10].into(), [127, 0, 0, 1].into()],
            subnets: vec![
                ("192.0.2.0/24".parse().unwrap(), 7),
                ("2001:db8::/64".parse().unwrap(), 7),
            ],
        }
    }

    fn peer(name: &str, ranges: &str, addresses: &[&str]) -> Peer {
        Peer {
            name: name.into(),
            ranges: ranges.parse().unwrap(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            routing: PodRouting::Auto,
        }
    }

    fn lines(wanted: &Wanted) -> Vec<String> {
        let way = |way: &Way| {
            let link = way.link.map_or("vxlan".to_string(), |link| link.to_string());
            format!("{} via {} on {link}", way.range, way.gateway)
        };
        let forward = |f: &Forward| format!("{:02x?} to {} as {:#x}", f.mac, f.to, f.vni);
        let ways = wanted.ways.iter().map(way);
        ways.chain(wanted.forwards.iter().map(forward)).collect()
    }

    #[test]
    fn a_common_network_means_a_route() {
        let near = peer("near", "10.64.16.0/20", &["192.0.2.11"]);
        let wanted = wanted(&here(PodRouting::Auto), &[near]);
        assert_eq!(lines(&wanted), ["10.64.16.0/20 via 192.0.2.11 on 7"]);
        assert!(wanted.neighbours.is_empty() && wanted.unreachable.is_empty());
    }

    #[test]
    fn elsewhere_means_vxlan_or_nothing() {
        let far = [peer("far", "10.64.16.0/20", &["198.51.100.11"])];
        let by_vxlan = [
            "10.64.16.0/20 via 10.64.16.0 on vxlan",
            "[0e, c0, 0a, 40, 10, 00] to 198.51.100.11 as 0x401000",
        ];
        assert_eq!(lines(&wanted(&here(PodRouting::Auto), &far)), by_vxlan);
        let none = wanted(&here(PodRouting::Routes), &far);
        assert_eq!(none.unreachable, ["far"]);
        assert!(lines(&none).is_empty());
    }

    #[test]
    fn either_side_can_ask_for_vxlan() {
        let near = peer("near", "10.64.16.0/20", &["192.0.2.11"]);
        let asked = Peer {
            routing: PodRouting::Vxlan,
            ..near.clone()
        };
        let by_vxlan = wanted(&here(PodRouting::Vxlan), &[near]);
        assert_eq!(by_vxlan.forwards.len(), 1);
        assert_eq!(wanted(&here(PodRouting::Auto), &[asked]), by_vxlan);
    }

    #[test]
    fn both_families_go_the_same_way() {
        let ranges = "10.64.16.0/20,fd00:64::1:0/112";
        let near = peer("near", ranges, &["192.0.2.11", "2001:db8::11"]);
        assert_eq!(
            lines(&wanted(&here(PodRouting::Auto), &[near])),
            [
                "10.64.16.0/20 via 192.0.2.11 on 7",
                "fd00:64::1:0/112 via 2001:db8::11 on 7"
            ]
        );
        // Without an address of IPv6 that family has no next hop.
        let half = wanted(&here(PodRouting::Auto), &[peer("half", ranges, &["192.0.2.11"])]);
        assert_eq!(
            (half.ways.len(), half.neighbours.len(), half.forwards.len()),
            (2, 2, 1)
        );
    }

    #[test]
    fn nodes_of_this_machine_and_thieves_of_our_range_are_left_alone() {
        let same = peer("same", "10.64.16.0/20", &["192.0.2.10"]);
        let thief = peer("thief", "10.64.0.0/20", &["192.0.2.11"]);
        assert_eq!(
            wanted(&here(PodRouting::Vxlan), &[same, thief]),
            Wanted::default()
        );
    }

    #[test]
    fn stations_differ() {
        let of = |ranges: &str| station(&ranges.parse().unwrap());
        assert_eq!(of("10.64.16.0/20").vni, 0x40_1000);
        assert_eq!(of("10.0.0.0/20").vni, 1);
        assert_ne!(of("fd00:64::1:0/112"), of("fd00:64::2:0/112"));
    }
}
