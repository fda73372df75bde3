//! A routed link between the host and a namespace: a veth pair without
//! networks on it. Both ends know the other's hardware address, so nobody
//! asks by ARP, and however many addresses lie behind a link, it is one
//! neighbour.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use sys::link::{Address, Mac, Route, RouteKind, Routing, Scope, Table, VethEnd};
use sys::netns;

/// Next hop out of every namespace: the host's end. No device has it.
const HOST_END: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// Next hop into every namespace.
const POD_END: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 2);
const HOST_MAC: Mac = [0x0a, 0x58, 169, 254, 1, 1];
const POD_MAC: Mac = [0x0a, 0x58, 169, 254, 1, 2];
/// How long a link may take to come up; microseconds where the machine is idle.
const SETTLE_MAX: Duration = Duration::from_secs(2);
const SETTLE_STEP: Duration = Duration::from_micros(200);
/// The device inside.
const INSIDE: &str = "eth0";

/// The host's end of a link that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostEnd {
    /// Index of the device.
    pub link: u32,
}

/// Makes the link called `name` into `namespace`, or finishes what an
/// interrupted predecessor began, and brings the host's end up.
pub(super) fn connect(
    routing: &mut Routing,
    inside: &mut Routing,
    name: &str,
    namespace: BorrowedFd<'_>,
    mtu: u32,
) -> io::Result<HostEnd> {
    let outer = routing.link(name)?;
    let inner = inside.link(INSIDE)?;
    let link = match (outer, inner) {
        (Some(link), Some(_)) => link,
        (outer, inner) => {
            // Half a pair belongs to a namespace that is going away.
            if outer.is_some() {
                routing.delete_link(name)?;
            }
            if inner.is_some() {
                inside.delete_link(INSIDE)?;
            }
            let host = VethEnd { name, mac: HOST_MAC };
            routing.add_veth(
                &host,
                &VethEnd {
                    name: INSIDE,
                    mac: POD_MAC,
                },
                namespace,
                mtu,
            )?;
            routing
                .link(name)?
                .ok_or_else(|| io::Error::other(format!("link {name} vanished")))?
        }
    };
    // A container that may send raw packets could announce itself as the host's
    // IPv6 router.
    soft_set(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1");
    routing.set_up(link.index)?;
    routing.replace_neighbour(link.index, POD_END, POD_MAC)?;
    // Packets must come from the addresses that are routed to this link.
    soft_set(&format!("net/ipv4/conf/{name}/rp_filter"), "1");
    Ok(HostEnd { link: link.index })
}

/// Opens the routing tables of a namespace; usable from outside afterwards.
pub(super) fn routing_in(namespace: BorrowedFd<'_>) -> io::Result<Routing> {
    netns::with(namespace, Routing::open)?
}

/// Brings up what is inside a namespace and leads everything out by the link.
/// What is configured already is left as it is.
pub(super) fn configure_inside(inside: &mut Routing, address: Option<Ipv4Addr>) -> io::Result<()> {
    inside.set_up(netns::LOOPBACK)?;
    let eth0 = inside
        .link(INSIDE)?
        .ok_or_else(|| io::Error::other("no eth0 in the namespace"))?;
    let done = inside.routes(Table::Main)?.iter().any(|route| route.prefix == 0);
    if eth0.up && done {
        return Ok(());
    }
    if let Some(address) = address {
        inside.add_address(
            &Address {
                link: eth0.index,
                address,
                prefix: 32,
            },
            Scope::Universe,
        )?;
    }
    inside.set_up(eth0.index)?;
    inside.replace_neighbour(eth0.index, HOST_END, HOST_MAC)?;
    inside.replace_route(&out_of(eth0.index, Ipv4Addr::UNSPECIFIED, 0))
}

/// Waits until packets pass from the host into a link whose both ends are up.
///
/// The end that came up first learns of the other's by a task of the kernel's;
/// what is sent before is lost without a word.
pub(super) fn settle(routing: &mut Routing, name: &str) -> io::Result<()> {
    let start = Instant::now();
    while !routing.link(name)?.is_some_and(|link| link.operational) {
        if start.elapsed() > SETTLE_MAX {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("link {name} does not come up"),
            ));
        }
        std::thread::sleep(SETTLE_STEP);
    }
    Ok(())
}

/// Inside the shared namespace: an address that is elsewhere although the
/// whole range is local there.
pub(super) fn except(inside: &mut Routing, address: Ipv4Addr, elsewhere: bool) -> io::Result<()> {
    let Some(eth0) = inside.link(INSIDE)? else {
        return Ok(());
    };
    let route = Route {
        table: Table::Local,
        ..out_of(eth0.index, address, 32)
    };
    if elsewhere {
        inside.replace_route(&route)
    } else {
        inside.delete_route(&route)
    }
}

/// The addresses that [`except`] has made exceptions of.
pub(super) fn exceptions(inside: &mut Routing) -> io::Result<Vec<Ipv4Addr>> {
    let routes = inside.routes(Table::Local)?;
    let ours = |r: &&Route| r.kind == RouteKind::Unicast && r.prefix == 32 && r.gateway == Some(HOST_END);
    Ok(routes.iter().filter(ours).map(|r| r.destination).collect())
}

/// From the host to what lies behind a link, coming from `source`.
pub(super) fn into(end: HostEnd, destination: Ipv4Addr, prefix: u8, source: Ipv4Addr) -> Route {
    Route {
        destination,
        prefix,
        link: end.link,
        gateway: Some(POD_END),
        source: Some(source),
        kind: RouteKind::Unicast,
        table: Table::Main,
    }
}

fn out_of(link: u32, destination: Ipv4Addr, prefix: u8) -> Route {
    Route {
        destination,
        prefix,
        link,
        gateway: Some(HOST_END),
        source: None,
        kind: RouteKind::Unicast,
        table: Table::Main,
    }
}

/// Sets what is good to have; in some containers `/proc/sys` is read-only.
pub(super) fn soft_set(name: &str, value: &str) {
    if let Err(error) = sys::sysctl::set(name, value) {
        tracing::debug!(%error, "setting left as it is");
    }
}
