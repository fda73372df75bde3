//! Links, addresses, routes and neighbours by rtnetlink, of both families.

mod address;
mod neighbour;
mod route;
mod vxlan;

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::netlink::{Ack, Buffer, Family, Message, Socket, attribute, text};

pub use address::{Address, Scope};
pub use neighbour::{Forward, Neighbour};
pub use route::{Route, RouteKind, Table};
pub use vxlan::{VXLAN_PORT, Vxlan};

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

/// One end of a veth pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VethEnd<'a> {
    /// At most [`NAME_BYTES_MAX`] bytes.
    pub name: &'a str,
    /// Its hardware address.
    pub mac: Mac,
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
        self.named(name, parse_link)
    }

    /// What `parse` makes of the device of that name; `None` if there is none.
    fn named<T>(&mut self, name: &str, parse: fn(&[u8]) -> Option<T>) -> io::Result<Option<T>> {
        let (found, ack) = self.socket.query(libc::RTM_GETLINK, 0, |b| {
            b.raw(&link_header(0, 0, 0)).text(libc::IFLA_IFNAME, name);
        })?;
        match ack.errno {
            libc::ENODEV => Ok(None),
            _ => ack
                .into_result(&format!("look up link {name}"))
                .map(|()| found.iter().find_map(|m| parse(&m.body))),
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

    /// Sets the largest packet, in bytes.
    pub fn set_mtu(&mut self, link: u32, mtu: u32) -> io::Result<()> {
        let ack = self.socket.request(libc::RTM_NEWLINK, 0, |b| {
            b.raw(&link_header(link, 0, 0));
            b.attribute(libc::IFLA_MTU, &mtu.to_ne_bytes());
        })?;
        ack.into_result(&format!("set the MTU of link {link} to {mtu}"))
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

const VETH_INFO_PEER: u16 = 1;
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

fn number(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

/// The address whose octets these are.
fn ip(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn family(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => libc::AF_INET as u8,
        IpAddr::V6(_) => libc::AF_INET6 as u8,
    }
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
                address: IpAddr::from([10, 9, 0, 1]),
                prefix: 32,
            };
            routing.add_address(&address, Scope::Host).unwrap();
            routing.add_address(&address, Scope::Host).unwrap();
            assert!(routing.addresses().unwrap().contains(&address));

            let route = Route {
                destination: IpAddr::from([10, 9, 1, 0]),
                prefix: 24,
                link: link.index,
                gateway: Some(IpAddr::from([169, 254, 1, 2])),
                source: Some(address.address),
                kind: RouteKind::Unicast,
                table: Table::Main,
                metric: 0,
            };
            routing.replace_route(&route).unwrap();
            routing.replace_route(&route).unwrap();
            let routes = |routing: &mut Routing| {
                let mut routes = routing.routes(Table::Main).unwrap();
                routes.retain(|route| !route.destination.to_string().starts_with("fe80"));
                routes
            };
            assert_eq!(routes(&mut routing), [route]);
            let six = Route {
                destination: "fd00:9::".parse().unwrap(),
                prefix: 64,
                gateway: Some("fe80::2".parse().unwrap()),
                source: None,
                metric: 77,
                ..route
            };
            routing.replace_route(&six).unwrap();
            routing.replace_route(&six).unwrap();
            assert_eq!(routes(&mut routing), [route, six]);
            routing.delete_route(&six).unwrap();
            routing
                .replace_neighbour(
                    link.index,
                    Neighbour {
                        address: [169, 254, 1, 2].into(),
                        mac: POD_MAC,
                    },
                )
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
