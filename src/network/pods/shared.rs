//! The namespace that pods without one of their own share, and what the kernel is told for pods' sake.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};

use api::cidr::Cidr;
use sys::link::{Address, Route, RouteKind, Routing, Scope, Table};
use sys::netns;

use super::wire;
use crate::config::{NetworkConfig, gateway};
use crate::services::ServiceProxy;
use crate::{ipam, names};

/// Connects the shared namespace and makes the node's addresses. Returns from
/// where the host talks to pods, per family.
pub(super) fn connect_shared(
    config: &NetworkConfig,
    routing: &mut Routing,
    shared: &mut Routing,
    namespace: &OwnedFd,
    mtu: u32,
) -> io::Result<Vec<IpAddr>> {
    let (name, ipv6) = (names::shared_link(&config.instance_id), config.has_ipv6());
    netns::with(namespace, || {
        inside_settings(ipv6);
        // Guests make a connection for each request that they send: without this, 14,000 of them to one address use up
        // the ports of a minute.
        wire::soft_set("net.ipv4.tcp_tw_reuse", "1");
    })?;
    let end = wire::connect(routing, shared, &name, namespace.as_fd(), mtu, ipv6)?;
    wire::configure_inside(shared, None, ipv6)?;
    wire::settle(routing, &name)?;
    let mut local: Vec<Cidr> = config.node_cidr.iter().collect();
    if ipv6 {
        // IPv6 asks for real addresses when a socket is bound, unless told not to.
        netns::with(namespace, || sys::sysctl::set("net.ipv6.ip_nonlocal_bind", "1"))??;
        local.push(ipam::loopback_v6());
    }
    for range in local {
        shared.replace_route(&any_of(range))?;
    }
    let address = |address: IpAddr| Address {
        link: end.link,
        address,
        prefix: wire::alone(address).bits(),
    };
    for range in config.node_cidr.iter() {
        wire::except(shared, gateway(&range), true)?;
        routing.add_address(&address(gateway(&range)), Scope::Universe)?;
    }
    routing.add_address(&address(config.dns_ip.into()), Scope::Host)?;
    let known = routing.addresses()?;
    let source = |range: Cidr| {
        let node = config.node_address(range.is_ipv6());
        node.filter(|ip| known.iter().any(|a| a.address == *ip))
            .unwrap_or(gateway(&range))
    };
    let sources: Vec<IpAddr> = config.node_cidr.iter().map(source).collect();
    // The services' route is never followed to its end: packets are translated
    // or refused. But without one, sockets would hear "network unreachable".
    for range in config.node_cidr.iter().chain(config.service_cidr.iter()) {
        if let Ok(source) = of_family(&sources, range.is_ipv6()) {
            routing.replace_route(&wire::into(end, range, source))?;
        }
    }
    // Without the kernel's translation, Services are sockets of this process.
    for range in config.service_cidr.iter() {
        let here = Route {
            link: end.link,
            ..any_of(range)
        };
        match config.proxy {
            ServiceProxy::Userspace => routing.replace_route(&here)?,
            // Left by a predecessor that was told otherwise, or not there.
            ServiceProxy::Kernel => drop(routing.delete_route(&here)),
        }
    }
    Ok(sources)
}

/// Every address of a range can be bound here, without having any of them (AnyIP).
fn any_of(range: Cidr) -> Route {
    Route {
        destination: range.base(),
        prefix: range.bits(),
        link: netns::LOOPBACK,
        gateway: None,
        source: None,
        kind: RouteKind::Local,
        table: Table::Local,
        metric: 0,
    }
}

pub(super) fn of_family(addresses: &[IpAddr], ipv6: bool) -> io::Result<IpAddr> {
    let found = addresses.iter().find(|ip| ip.is_ipv6() == ipv6);
    found
        .copied()
        .ok_or_else(|| io::Error::other("the node's network has no such family"))
}

/// Makes the machine a router.
pub(super) fn forward(ipv6: bool) -> io::Result<()> {
    sys::sysctl::set("net.ipv4.ip_forward", "1")?;
    if !ipv6 {
        return Ok(());
    }
    // A router ignores other routers' advertisements unless it is told twice:
    // a machine that has its own address from them would lose it.
    for entry in std::fs::read_dir("/proc/sys/net/ipv6/conf")?.flatten() {
        let setting = format!("net/ipv6/conf/{}/accept_ra", entry.file_name().to_string_lossy());
        if sys::sysctl::get(&setting).is_ok_and(|value| value == "1") {
            wire::soft_set(&setting, "2");
        }
    }
    sys::sysctl::set("net.ipv6.conf.all.forwarding", "1")
}

/// What a namespace is told before it has its link.
pub(super) fn inside_settings(ipv6: bool) {
    if ipv6 {
        wire::soft_set("net.ipv6.conf.all.disable_ipv6", "0");
        wire::soft_set("net.ipv6.conf.default.disable_ipv6", "0");
        wire::soft_set("net.ipv6.conf.default.accept_ra", "0");
        wire::soft_set("net.ipv6.conf.default.addr_gen_mode", "1");
    }
}

/// What containers expect of their namespace: any user may listen on any port
/// and send pings.
pub(super) fn container_settings() {
    wire::soft_set("net.ipv4.ip_unprivileged_port_start", "0");
    wire::soft_set("net.ipv4.ping_group_range", "0 2147483647");
}
