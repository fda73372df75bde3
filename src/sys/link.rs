//! Links, addresses, routes and neighbours by rtnetlink.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::netlink::{Ack, Buffer, Family, Message, Socket, attribute, text};

/// The longest name that a network device can have.
pub const NAME_BYTES_MAX: usize = 15;

/// A hardware address.
pub type Mac = [u8; 6];

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its index in this namespace.
    pub index: u32,
    /// Its name in this namespace.
    pub name: String,
    /// Largest packet in bytes.
    pub mtu: u32,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether packets pass: it is up, so is what it is connected to, and the
    /// kernel has taken notice of that, which it does a little later.
    pub operational: bool,
    /// Hardware address, if it has one of six bytes.
    pub mac: Option<Mac>,
}

/// An IPv4 address on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The device.
    pub link: u32,
    /// The address.
    pub address: Ipv4Addr,
    /// Bits of its network.
    pub prefix: u8,
}

/// How far an address or a route reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Everywhere; may be chosen as source for anything.
    Universe,
    /// On the link only.
    Link,
    /// Inside this machine; never chosen as source for what leaves it.
    Host,
}

/// One end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethEnd<'a> {
    /// At most [`NAME_BYTES_MAX`] bytes.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
}

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

/// An IPv4 route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Destination network.
    pub destination: Ipv4Addr,
    /// Its bits; 0 is the default route.
    pub prefix: u8,
    /// Device.
    pub link: u32,
    /// Next hop; taken to be on the link whatever the addresses say.
    pub gateway: Option<Ipv4Addr>,
    /// Preferred source.
    pub source: Option<Ipv4Addr>,
    /// Deliver or send.
    pub kind: RouteKind,
    /// Table.
    pub table: Table,
}

/// A conversation with the routing part of one namespace's kernel.
#[derive(Debug)]
pub struct Routing {
    socket: Socket,
}

impl Routing {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<Routing> {
        Ok(Routing {
            socket: Socket::open(Family::Route)?,
        })
    }

    /// All devices.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        let messages = self.dump(libc::RTM_GETLINK, |b| {
            b.raw(&link_header(0, 0, 0));
        })?;
        Ok(messages.iter().filter_map(|m| parse_link(&m.body)).collect())
    }

    /// The device of that name.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let (found, ack) = self.socket.query(libc::RTM_GETLINK, 0, |b| {
            b.raw(&link_header(0, 0, 0)).text(libc::IFLA_IFNAME, name);
        })?;
        match ack.errno {
            libc::ENODEV => Ok(None),
            _ => ack
                .into_result(&format!("look up link {name}"))
                .map(|()| found.iter().find_map(|m| parse_link(&m.body))),
        }
    }

    /// Makes a veth pair: `host` here, `peer` in the namespace `peer_namespace`.
    /// `AlreadyExists` if there is a device of either name.
    pub fn add_veth(
        &mut self,
        host: &VethEnd<'_>,
        peer: &VethEnd<'_>,
        peer_namespace: BorrowedFd<'_>,
        mtu: u32,
    ) -> io::Result<()> {
        check_name(host.name)?;
        check_name(peer.name)?;
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let ack = self.socket.request(libc::RTM_NEWLINK, flags, |b| {
            b.raw(&link_header(0, 0, 0));
            veth_end(b, host, mtu);
            b.nest(libc::IFLA_LINKINFO, |b| {
                b.text(libc::IFLA_INFO_KIND, "veth")
                    .nest(libc::IFLA_INFO_DATA, |b| {
                        b.nest(VETH_INFO_PEER, |b| {
                            b.raw(&link_header(0, 0, 0));
                            veth_end(b, peer, mtu);
                            b.attribute(libc::IFLA_NET_NS_FD, &peer_namespace.as_raw_fd().to_ne_bytes());
                        });
                    });
            });
        })?;
        ack.into_result(&format!("add veth {}", host.name))
    }

    /// Removes a device, its routes and its peer. Absent is not an error.
    pub fn delete_link(&mut self, name: &str) -> io::Result<()> {
        let ack = self.socket.request(libc::RTM_DELLINK, 0, |b| {
            b.raw(&link_header(0, 0, 0)).text(libc::IFLA_IFNAME, name);
        })?;
        absent_is_fine(ack, &[libc::ENODEV], &format!("delete link {name}"))
    }

    /// Brings a device up.
    pub fn set_up(&mut self, link: u32) -> io::Result<()> {
        let up = libc::IFF_UP as u32;
        let ack = self.socket.request(libc::RTM_NEWLINK, 0, |b| {
            b.raw(&link_header(link, up, up));
        })?;
        ack.into_result(&format!("bring up link {link}"))
    }

    /// All IPv4 addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let messages = self.dump(libc::RTM_GETADDR, |b| {
            b.raw(&[AF_INET, 0, 0, 0, 0, 0, 0, 0]);
        })?;
        Ok(messages.iter().filter_map(|m| parse_address(&m.body)).collect())
    }

    /// Adds an address; one that is there already stays.
    pub fn add_address(&mut self, address: &Address, scope: Scope) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let ack = self.socket.request(libc::RTM_NEWADDR, flags, |b| {
            b.raw(&[AF_INET, address.prefix, 0, scope.number()])
                .raw(&address.link.to_ne_bytes());
            b.attribute(libc::IFA_LOCAL, &address.address.octets());
            b.attribute(libc::IFA_ADDRESS, &address.address.octets());
        })?;
        absent_is_fine(
            ack,
            &[libc::EEXIST],
            &format!("add address {}/{}", address.address, address.prefix),
        )
    }

    /// Removes an address. Absent is not an error.
    pub fn delete_address(&mut self, address: &Address) -> io::Result<()> {
        let ack = self.socket.request(libc::RTM_DELADDR, 0, |b| {
            b.raw(&[AF_INET, address.prefix, 0, 0])
                .raw(&address.link.to_ne_bytes());
            b.attribute(libc::IFA_LOCAL, &address.address.octets());
        })?;
        let what = format!("delete address {}/{}", address.address, address.prefix);
        absent_is_fine(ack, &[libc::EADDRNOTAVAIL, libc::ENODEV], &what)
    }

    /// The IPv4 routes of a table; kinds that we never make are left out.
    pub fn routes(&mut self, table: Table) -> io::Result<Vec<Route>> {
        let messages = self.dump(libc::RTM_GETROUTE, |b| {
            b.raw(&[AF_INET, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
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

    /// Notes a neighbour's hardware address for good, so that nobody needs to
    /// ask for it by ARP.
    pub fn replace_neighbour(&mut self, link: u32, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let ack = self.socket.request(libc::RTM_NEWNEIGH, flags, |b| {
            b.raw(&[AF_INET, 0, 0, 0])
                .raw(&link.to_ne_bytes())
                .raw(&libc::NUD_PERMANENT.to_ne_bytes())
                .raw(&[0, 0]);
            b.attribute(libc::NDA_DST, &address.octets())
                .attribute(libc::NDA_LLADDR, &mac);
        })?;
        ack.into_result(&format!("neighbour {address}"))
    }

    /// A dump that met a change is repeated; a table that never rests is an error.
    fn dump(&mut self, kind: u16, body: impl Fn(&mut Buffer)) -> io::Result<Vec<Message>> {
        for _ in 0..DUMP_TRIES {
            match self.socket.dump(kind, &body) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                other => return other,
            }
        }
        Err(io::Error::new(
            io::ErrorKind::Interrupted,
            "routing tables keep changing",
        ))
    }
}

impl Scope {
    fn number(self) -> u8 {
        match self {
            Scope::Universe => libc::RT_SCOPE_UNIVERSE,
            Scope::Link => libc::RT_SCOPE_LINK,
            Scope::Host => libc::RT_SCOPE_HOST,
        }
    }
}

const AF_INET: u8 = libc::AF_INET as u8;
const VETH_INFO_PEER: u16 = 1;
const RTNH_F_ONLINK: u32 = 4;
const DUMP_TRIES: u32 = 8;
/// `IF_OPER_UP`.
const OPERATIONAL: u8 = 6;

fn check_name(name: &str) -> io::Result<()> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        let text = format!("link name {name:?} does not have 1 to {NAME_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(())
}

fn absent_is_fine(ack: Ack, fine: &[i32], what: &str) -> io::Result<()> {
    if fine.contains(&ack.errno) {
        Ok(())
    } else {
        ack.into_result(what)
    }
}

/// `struct ifinfomsg`.
fn link_header(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0u8; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

fn veth_end(b: &mut Buffer, end: &VethEnd<'_>, mtu: u32) {
    b.text(libc::IFLA_IFNAME, end.name);
    b.attribute(libc::IFLA_ADDRESS, &end.mac)
        .attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
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
        AF_INET,
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
        b.attribute(libc::RTA_DST, &route.destination.octets());
    }
    b.attribute(libc::RTA_OIF, &route.link.to_ne_bytes());
    if let Some(gateway) = route.gateway {
        b.attribute(libc::RTA_GATEWAY, &gateway.octets());
    }
    if let Some(source) = route.source {
        b.attribute(libc::RTA_PREFSRC, &source.octets());
    }
}

fn parse_link(body: &[u8]) -> Option<Link> {
    let (header, rest) = body.split_at_checked(16)?;
    Some(Link {
        index: number(header.get(4..8)?)?,
        name: text(attribute(rest, libc::IFLA_IFNAME)?),
        mtu: attribute(rest, libc::IFLA_MTU).and_then(number).unwrap_or(0),
        up: number(header.get(8..12)?)? & libc::IFF_UP as u32 != 0,
        operational: attribute(rest, libc::IFLA_OPERSTATE) == Some(&[OPERATIONAL]),
        mac: attribute(rest, libc::IFLA_ADDRESS).and_then(|a| a.try_into().ok()),
    })
}

fn parse_address(body: &[u8]) -> Option<Address> {
    let (header, rest) = body.split_at_checked(8)?;
    let local = attribute(rest, libc::IFA_LOCAL).or_else(|| attribute(rest, libc::IFA_ADDRESS))?;
    Some(Address {
        link: number(header.get(4..8)?)?,
        address: ipv4(local)?,
        prefix: *header.get(1)?,
    })
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
    Some(Route {
        destination: attribute(rest, libc::RTA_DST)
            .and_then(ipv4)
            .unwrap_or(Ipv4Addr::UNSPECIFIED),
        prefix: *header.get(1)?,
        link: attribute(rest, libc::RTA_OIF).and_then(number)?,
        gateway: attribute(rest, libc::RTA_GATEWAY).and_then(ipv4),
        source: attribute(rest, libc::RTA_PREFSRC).and_then(ipv4),
        kind,
        table,
    })
}

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

fn ipv4(bytes: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::netns;
    use crate::testing::as_root;

    const HOST_MAC: Mac = [2, 0, 0, 0, 0, 1];
    const POD_MAC: Mac = [2, 0, 0, 0, 0, 2];

    #[test]
    fn a_routed_veth_is_made_read_back_and_removed() {
        as_root(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("pod");
            let pod = netns::create(&path).unwrap();
            let mut routing = Routing::open().unwrap();
            let host = VethEnd {
                name: "cptest",
                mac: HOST_MAC,
            };
            let peer = VethEnd {
                name: "eth0",
                mac: POD_MAC,
            };
            routing.add_veth(&host, &peer, pod.as_fd(), 1400).unwrap();
            let again = routing.add_veth(&host, &peer, pod.as_fd(), 1400).unwrap_err();
            assert_eq!(again.kind(), io::ErrorKind::AlreadyExists);

            let link = routing.link("cptest").unwrap().unwrap();
            assert_eq!((link.mtu, link.mac, link.up), (1400, Some(HOST_MAC), false));
            routing.set_up(link.index).unwrap();
            assert!(routing.link("cptest").unwrap().unwrap().up);
            let inside = netns::with(&pod, || Routing::open().unwrap().link("eth0").unwrap()).unwrap();
            assert_eq!(inside.unwrap().mac, Some(POD_MAC));

            let address = Address {
                link: link.index,
                address: Ipv4Addr::new(10, 9, 0, 1),
                prefix: 32,
            };
            routing.add_address(&address, Scope::Host).unwrap();
            routing.add_address(&address, Scope::Host).unwrap();
            assert!(routing.addresses().unwrap().contains(&address));

            let route = Route {
                destination: Ipv4Addr::new(10, 9, 1, 0),
                prefix: 24,
                link: link.index,
                gateway: Some(Ipv4Addr::new(169, 254, 1, 2)),
                source: Some(address.address),
                kind: RouteKind::Unicast,
                table: Table::Main,
            };
            routing.replace_route(&route).unwrap();
            routing.replace_route(&route).unwrap();
            assert_eq!(routing.routes(Table::Main).unwrap(), [route]);
            routing
                .replace_neighbour(link.index, Ipv4Addr::new(169, 254, 1, 2), POD_MAC)
                .unwrap();
            routing.delete_route(&route).unwrap();
            routing.delete_route(&route).unwrap();
            routing.delete_address(&address).unwrap();
            routing.delete_address(&address).unwrap();

            routing.delete_link("cptest").unwrap();
            routing.delete_link("cptest").unwrap();
            assert_eq!(routing.link("cptest").unwrap(), None);
            netns::delete(&path).unwrap();
        });
    }

    #[test]
    fn names_that_the_kernel_would_cut_are_refused() {
        assert!(check_name("").is_err());
        assert!(check_name("0123456789abcdef").is_err());
        assert!(check_name("0123456789abcde").is_ok());
    }
}
