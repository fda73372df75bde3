//! Routes.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Routing, absent_is_fine, family, ip, number, octets};
use crate::netlink::{Buffer, attribute};

/// Routing tables that exist everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Where ordinary routes live.
    Main,
    /// Consulted first: the machine's own addresses.
    Local,
}

/// What a route does with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RouteKind {
    /// Sends it out.
    Unicast,
    /// Delivers it here (AnyIP when a whole range is local).
    Local,
}

/// A route, of the family that its destination has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub destination: IpAddr,
    /// Its bits; 0 is the default route.
    pub prefix: u8,
    /// Device.
    pub link: u32,
    /// Next hop; taken to be on the link whatever the addresses say.
    pub gateway: Option<IpAddr>,
    /// Preferred source.
    pub source: Option<IpAddr>,
    /// Deliver or send.
    pub kind: RouteKind,
    /// Table.
    pub table: Table,
    /// Of several routes to one destination the lowest counts; each has its
    /// own. 0: the kernel's choice.
    pub metric: u32,
}

const RTNH_F_ONLINK: u32 = 4;
/// What the kernel makes of no metric in IPv6.
const METRIC_DEFAULT_V6: u32 = 1024;

impl Routing {
    /// The routes of a table, of both families; kinds that we never make are left out.
    pub fn routes(&mut self, table: Table) -> io::Result<Vec<Route>> {
        let messages = self.dump(libc::RTM_GETROUTE, |b| {
            b.raw(&[0; 12]);
        })?;
        Ok(messages
            .iter()
            .filter_map(|m| parse_route(&m.body))
            .filter(|r| r.table == table)
            .collect())
    }

    /// Adds a route or replaces the one to the same destination.
    pub fn replace_route(&mut self, route: &Route) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let ack = self
            .socket
            .request(libc::RTM_NEWROUTE, flags, |b| write_route(b, route))?;
        ack.into_result(&format!("route {}/{}", route.destination, route.prefix))
    }

    /// Removes a route. Absent is not an error.
    pub fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        let ack = self
            .socket
            .request(libc::RTM_DELROUTE, 0, |b| write_route(b, route))?;
        absent_is_fine(
            ack,
            &[libc::ESRCH],
            &format!("delete route {}/{}", route.destination, route.prefix),
        )
    }
}

/// `struct rtmsg` and its attributes.
fn write_route(b: &mut Buffer, route: &Route) {
    let (kind, scope) = match (route.kind, route.gateway) {
        (RouteKind::Local, _) => (libc::RTN_LOCAL, libc::RT_SCOPE_HOST),
        (RouteKind::Unicast, Some(_)) => (libc::RTN_UNICAST, libc::RT_SCOPE_UNIVERSE),
        (RouteKind::Unicast, None) => (libc::RTN_UNICAST, libc::RT_SCOPE_LINK),
    };
    let table = match route.table {
        Table::Main => libc::RT_TABLE_MAIN,
        Table::Local => libc::RT_TABLE_LOCAL,
    };
    // A next hop outside the device's networks is what routed /32 links have.
    let flags: u32 = if route.gateway.is_some() { RTNH_F_ONLINK } else { 0 };
    b.raw(&[
        family(route.destination),
        route.prefix,
        0,
        0,
        table,
        libc::RTPROT_STATIC,
        scope,
        kind,
    ])
    .raw(&flags.to_ne_bytes());
    if route.prefix > 0 {
        b.attribute(libc::RTA_DST, &octets(route.destination));
    }
    if route.metric > 0 {
        b.attribute(libc::RTA_PRIORITY, &route.metric.to_ne_bytes());
    }
    b.attribute(libc::RTA_OIF, &route.link.to_ne_bytes());
    if let Some(gateway) = route.gateway {
        b.attribute(libc::RTA_GATEWAY, &octets(gateway));
    }
    if let Some(source) = route.source {
        b.attribute(libc::RTA_PREFSRC, &octets(source));
    }
}

fn parse_route(body: &[u8]) -> Option<Route> {
    let (header, rest) = body.split_at_checked(12)?;
    let kind = match *header.get(7)? {
        libc::RTN_UNICAST => RouteKind::Unicast,
        libc::RTN_LOCAL => RouteKind::Local,
        _ => return None,
    };
    let table = match attribute(rest, libc::RTA_TABLE).and_then(number)? {
        t if t == u32::from(libc::RT_TABLE_MAIN) => Table::Main,
        t if t == u32::from(libc::RT_TABLE_LOCAL) => Table::Local,
        _ => return None,
    };
    let (unspecified, metric_default) = match i32::from(*header.first()?) {
        libc::AF_INET => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        libc::AF_INET6 => (IpAddr::V6(Ipv6Addr::UNSPECIFIED), METRIC_DEFAULT_V6),
        _ => return None,
    };
    let metric = attribute(rest, libc::RTA_PRIORITY)
        .and_then(number)
        .filter(|metric| *metric != metric_default);
    Some(Route {
        destination: attribute(rest, libc::RTA_DST).and_then(ip).unwrap_or(unspecified),
        prefix: *header.get(1)?,
        link: attribute(rest, libc::RTA_OIF).and_then(number)?,
        gateway: attribute(rest, libc::RTA_GATEWAY).and_then(ip),
        source: attribute(rest, libc::RTA_PREFSRC).and_then(ip),
        kind,
        table,
        metric: metric.unwrap_or(0),
    })
}
