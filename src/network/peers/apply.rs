//! The difference between what there should be and what the kernel has.
//!
//! Our routes are known by their metric, which is the instance id: other
//! nodes of this machine have routes to the same pods, and theirs are not ours.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use api::cidr::Cidr;
use sys::link::{Address, Route, RouteKind, Routing, Scope, Table, Vxlan};
use sys::netns;

use super::Peer;
use super::plan::{self, Here, Wanted, Way};
use crate::config::NetworkConfig;
use crate::names;

/// What a vxlan puts before each packet, by the family that carries it.
const OVERHEAD_V4: u32 = 50;
const OVERHEAD_V6: u32 = 70;

/// The ways to other nodes in the kernel.
#[derive(Debug, Default)]
pub(crate) struct Links {
    peers: Vec<Peer>,
    /// Who was unreachable when that was last told.
    told: Vec<String>,
}

impl Links {
    /// With the peers known from before.
    pub fn new(peers: Vec<Peer>) -> Links {
        Links {
            peers,
            told: Vec::new(),
        }
    }

    /// Other peers; true if that is news.
    pub fn set(&mut self, peers: Vec<Peer>) -> bool {
        let news = self.peers != peers;
        self.peers = peers;
        news
    }

    /// The peers.
    pub fn all(&self) -> &[Peer] {
        &self.peers
    }

    /// Makes the kernel have what these peers need, and nothing else of ours;
    /// `mtu` is the underlay's. Returns the largest packet that pods may send.
    pub fn settle(&mut self, config: &NetworkConfig, routing: &mut Routing, mtu: u32) -> io::Result<u32> {
        let wanted = plan::wanted(&here(config, routing)?, &self.peers);
        self.tell(&wanted);
        let inner = inner_mtu(config, mtu);
        let overlay = match wanted.forwards.is_empty() {
            true => None,
            false => Some(open_overlay(config, routing, inner)?),
        };
        // Removals first: a range may have another node by now.
        let stale = settle_routes(config, routing, &wanted, overlay)?;
        match overlay {
            Some(link) => settle_overlay(config, routing, link, &wanted)?,
            None => routing.delete_link(&names::overlay_link(&config.instance_id))?,
        }
        for route in stale {
            routing.replace_route(&route)?;
        }
        Ok(
            if overlay.is_some() || config.routing == super::PodRouting::Vxlan {
                inner
            } else {
                mtu
            },
        )
    }

    fn tell(&mut self, wanted: &Wanted) {
        if self.told != wanted.unreachable {
            for name in &wanted.unreachable {
                tracing::warn!(
                    node = name,
                    "no way to its pods: it shares no network with this node; pod-routing auto or \
                     vxlan on one of them would reach it"
                );
            }
            self.told.clone_from(&wanted.unreachable);
        }
    }
}

/// Removes the routes of an instance; its device goes with the other links.
pub(crate) fn forget(instance: &str, routing: &mut Routing) -> io::Result<()> {
    for route in own_routes(instance, routing)? {
        routing.delete_route(&route)?;
    }
    Ok(())
}

fn here(config: &NetworkConfig, routing: &mut Routing) -> io::Result<Here> {
    let links = routing.links()?;
    let mut up: BTreeMap<u32, bool> = BTreeMap::new();
    for link in &links {
        let ours = names::is_link_of(&config.instance_id, &link.name);
        up.insert(link.index, link.up && !ours && link.index != netns::LOOPBACK);
    }
    let addresses = routing.addresses()?;
    let subnet = |a: &Address| {
        let range = Cidr::new(a.address, a.prefix);
        let useful = up.get(&a.link) == Some(&true) && range.bits() < range.width();
        let link_local = Cidr::new([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10).contains(a.address);
        (useful && !link_local).then_some((range, a.link))
    };
    Ok(Here {
        routing: config.routing,
        ranges: config.node_cidr,
        node_ip: config.node_ip.into(),
        subnets: addresses.iter().filter_map(subnet).collect(),
        addresses: addresses.iter().map(|a| a.address).collect(),
    })
}

fn inner_mtu(config: &NetworkConfig, mtu: u32) -> u32 {
    let overhead = match IpAddr::from(config.node_ip) {
        IpAddr::V4(_) => OVERHEAD_V4,
        IpAddr::V6(_) => OVERHEAD_V6,
    };
    mtu.saturating_sub(overhead)
}

/// Makes the vxlan device, or takes over one that is as it should be.
fn open_overlay(config: &NetworkConfig, routing: &mut Routing, mtu: u32) -> io::Result<u32> {
    let name = names::overlay_link(&config.instance_id);
    let station = plan::station(&config.node_cidr);
    let vxlan = Vxlan {
        vni: station.vni,
        local: config.node_ip.into(),
        mac: station.mac,
        mtu,
    };
    if routing.vxlan(&name)? != Some(vxlan) {
        routing.delete_link(&name)?;
        routing.add_vxlan(&name, &vxlan)?;
    }
    let link = routing.link(&name)?;
    let link = link
        .ok_or_else(|| io::Error::other(format!("link {name} vanished")))?
        .index;
    for (setting, value) in [
        ("net/ipv6/conf/{}/accept_ra", "0"),
        ("net/ipv6/conf/{}/addr_gen_mode", "1"),
        // What comes by vxlan may be answered by a plain route, if the other side asked for vxlan.
        ("net/ipv4/conf/{}/rp_filter", "2"),
    ] {
        crate::pods::soft_set(&setting.replace("{}", &name), value);
    }
    for address in plan::own_addresses(&config.node_cidr) {
        let prefix = Cidr::new(address, u8::MAX).bits();
        let address = Address {
            link,
            address,
            prefix,
        };
        routing.add_address(&address, Scope::Universe)?;
    }
    routing.set_up(link)?;
    Ok(link)
}

/// Removes our routes that should not be; returns those that are missing.
fn settle_routes(
    config: &NetworkConfig,
    routing: &mut Routing,
    wanted: &Wanted,
    overlay: Option<u32>,
) -> io::Result<Vec<Route>> {
    let route = |way: &Way| {
        let link = way.link.or(overlay)?;
        Some(Route {
            destination: way.range.base(),
            prefix: way.range.bits(),
            link,
            gateway: Some(way.gateway),
            source: None,
            kind: RouteKind::Unicast,
            table: Table::Main,
            metric: names::route_metric(&config.instance_id),
        })
    };
    let wanted: Vec<Route> = wanted.ways.iter().filter_map(route).collect();
    let found = own_routes(&config.instance_id, routing)?;
    for old in found.iter().filter(|old| !wanted.contains(old)) {
        routing.delete_route(old)?;
    }
    Ok(wanted.into_iter().filter(|new| !found.contains(new)).collect())
}

fn settle_overlay(
    config: &NetworkConfig,
    routing: &mut Routing,
    link: u32,
    wanted: &Wanted,
) -> io::Result<()> {
    let neighbours = routing.neighbours(link)?;
    let ours = |address: IpAddr| config.pod_cidr.contains(address);
    for old in neighbours
        .iter()
        .filter(|n| ours(n.address) && !wanted.neighbours.contains(n))
    {
        routing.delete_neighbour(link, old.address)?;
    }
    for new in wanted.neighbours.iter().filter(|n| !neighbours.contains(n)) {
        routing.replace_neighbour(link, *new)?;
    }
    let forwards = routing.forwards(link, plan::station(&config.node_cidr).vni)?;
    for old in forwards.iter().filter(|f| !wanted.forwards.contains(f)) {
        routing.delete_forward(link, old.mac)?;
    }
    for new in wanted.forwards.iter().filter(|f| !forwards.contains(f)) {
        routing.replace_forward(link, new)?;
    }
    Ok(())
}

fn own_routes(instance: &str, routing: &mut Routing) -> io::Result<Vec<Route>> {
    let metric = names::route_metric(instance);
    let mut routes = routing.routes(Table::Main)?;
    routes.retain(|route| route.metric == metric);
    Ok(routes)
}
