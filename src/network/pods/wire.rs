//! A routed link between the host and a namespace: a veth pair without
//! networks on it. Both ends know the other's hardware address, so nobody
//! asks by ARP, and however many addresses lie behind a link, it is one
//! neighbour.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use sys::link::{Address, Mac, Neighbour, Route, RouteKind, Routing, Scope, Table, VethEnd};
use sys::netns;

use api::cidr::{Addresses, Cidr};

/// Next hop out of every namespace: the host's end. No device has it.
const HOST_END: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(169, 254, 1, 1),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1),
);
/// Next hop into every namespace.
const POD_END: (Ipv4Addr, Ipv6Addr) = (
    Ipv4Addr::new(169, 254, 1, 2),
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2),
);
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
    ipv6: bool,
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
    // IPv6 router. And no addresses but ours: nobody would use them.
    for (setting, value) in [
        ("accept_ra", "0"),
        ("addr_gen_mode", "1"),
        ("disable_ipv6", if ipv6 { "0" } else { "1" }),
    ] {
        soft_set(&format!("net/ipv6/conf/{name}/{setting}"), value);
    }
    routing.set_up(link.index)?;
    know(routing, link.index, POD_END, POD_MAC, ipv6)?;
    // Packets must come from the addresses that are routed to this link.
    soft_set(&format!("net/ipv4/conf/{name}/rp_filter"), "1");
    Ok(HostEnd { link: link.index })
}

/// Opens the routing tables of a namespace; usable from outside afterwards.
pub(super) fn routing_in(namespace: BorrowedFd<'_>) -> io::Result<Routing> {
    netns::with(namespace, Routing::open)?
}

/// Brings up what is inside a namespace, gives it `addresses` and leads
/// everything out by the link. What is configured already is left as it is.
pub(super) fn configure_inside(
    inside: &mut Routing,
    addresses: Option<Addresses>,
    ipv6: bool,
) -> io::Result<()> {
    inside.set_up(netns::LOOPBACK)?;
    let eth0 = inside
        .link(INSIDE)?
        .ok_or_else(|| io::Error::other("no eth0 in the namespace"))?;
    for address in addresses.iter().flat_map(Addresses::iter) {
        let address = Address {
            link: eth0.index,
            address,
            prefix: alone(address).bits(),
        };
        inside.add_address(&address, Scope::Universe)?;
    }
    inside.set_up(eth0.index)?;
    know(inside, eth0.index, HOST_END, HOST_MAC, ipv6)?;
    let routes = inside.routes(Table::Main)?;
    for everything in everywhere(ipv6) {
        let known = |r: &Route| r.prefix == 0 && r.destination == everything.base();
        if !routes.iter().any(known) {
            inside.replace_route(&out_of(eth0.index, everything))?;
        }
    }
    Ok(())
}

/// Both ends know each other for good.
fn know(
    routing: &mut Routing,
    link: u32,
    (v4, v6): (Ipv4Addr, Ipv6Addr),
    mac: Mac,
    ipv6: bool,
) -> io::Result<()> {
    let address = v4.into();
    routing.replace_neighbour(link, Neighbour { address, mac })?;
    if ipv6 {
        let address = v6.into();
        routing.replace_neighbour(link, Neighbour { address, mac })?;
    }
    Ok(())
}

/// All there is, of the families in use.
fn everywhere(ipv6: bool) -> Vec<Cidr> {
    let mut all = vec![Cidr::new(Ipv4Addr::UNSPECIFIED, 0)];
    all.extend(ipv6.then(|| Cidr::new(Ipv6Addr::UNSPECIFIED, 0)));
    all
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

/// Sets the largest packet of a link, inside first: an end that took less than
/// the other sends would drop it without a word.
pub(super) fn set_mtu(routing: &mut Routing, inside: &mut Routing, name: &str, mtu: u32) -> io::Result<()> {
    for (end, name) in [(inside, INSIDE), (routing, name)] {
        if let Some(link) = end.link(name)?.filter(|link| link.mtu != mtu) {
            end.set_mtu(link.index, mtu)?;
        }
    }
    Ok(())
}

/// Inside the shared namespace: an address that is elsewhere although the
/// whole range is local there.
pub(super) fn except(inside: &mut Routing, address: IpAddr, elsewhere: bool) -> io::Result<()> {
    let Some(eth0) = inside.link(INSIDE)? else {
        return Ok(());
    };
    let route = Route {
        table: Table::Local,
        ..out_of(eth0.index, alone(address))
    };
    if elsewhere {
        inside.replace_route(&route)
    } else {
        inside.delete_route(&route)
    }
}

/// The addresses that [`except`] has made exceptions of.
pub(super) fn exceptions(inside: &mut Routing) -> io::Result<Vec<IpAddr>> {
    let routes = inside.routes(Table::Local)?;
    let ours = |r: &&Route| {
        let alone = alone(r.destination);
        r.kind == RouteKind::Unicast
            && r.prefix == alone.bits()
            && r.gateway == Some(of_family(HOST_END, alone.is_ipv6()))
    };
    Ok(routes.iter().filter(ours).map(|r| r.destination).collect())
}

/// The range of one address.
pub(super) fn alone(address: IpAddr) -> Cidr {
    Cidr::new(address, u8::MAX)
}

/// From the host to what lies behind a link, coming from `source`.
pub(super) fn into(end: HostEnd, range: Cidr, source: IpAddr) -> Route {
    Route {
        source: Some(source),
        gateway: Some(of_family(POD_END, range.is_ipv6())),
        ..out_of(end.link, range)
    }
}

fn out_of(link: u32, range: Cidr) -> Route {
    Route {
        destination: range.base(),
        prefix: range.bits(),
        link,
        gateway: Some(of_family(HOST_END, range.is_ipv6())),
        source: None,
        kind: RouteKind::Unicast,
        table: Table::Main,
        metric: 0,
    }
}

fn of_family((v4, v6): (Ipv4Addr, Ipv6Addr), ipv6: bool) -> IpAddr {
    if ipv6 { v6.into() } else { v4.into() }
}

/// Sets what is good to have; in some containers `/proc/sys` is read-only.
pub(crate) fn soft_set(name: &str, value: &str) {
    if let Err(error) = sys::sysctl::set(name, value) {
        tracing::debug!(%error, "setting left as it is");
    }
}
