//! Links, addresses, routes and neighbours by rtnetlink.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::BorrowedFd;

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
    socket: crate::netlink::Socket,
}

impl Routing {
    /// Opens it for the calling thread's network namespace.
    pub fn open() -> io::Result<Routing> {
        todo!()
    }

    /// All devices.
    pub fn links(&mut self) -> io::Result<Vec<Link>> {
        todo!()
    }

    /// The device of that name.
    pub fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        todo!()
    }

    /// Makes a veth pair: `host` here, `peer` in the namespace `peer_namespace`.
    pub fn add_veth(
        &mut self,
        host: &VethEnd<'_>,
        peer: &VethEnd<'_>,
        peer_namespace: BorrowedFd<'_>,
        mtu: u32,
    ) -> io::Result<()> {
        todo!()
    }

    /// Removes a device, its routes and its peer. Absent is not an error.
    pub fn delete_link(&mut self, name: &str) -> io::Result<()> {
        todo!()
    }

    /// Brings a device up.
    pub fn set_up(&mut self, link: u32) -> io::Result<()> {
        todo!()
    }

    /// All IPv4 addresses.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        todo!()
    }

    /// Adds an address; one that is there already stays.
    pub fn add_address(&mut self, address: &Address, scope: Scope) -> io::Result<()> {
        todo!()
    }

    /// The IPv4 routes of a table.
    pub fn routes(&mut self, table: Table) -> io::Result<Vec<Route>> {
        todo!()
    }

    /// Adds a route or replaces the one to the same destination.
    pub fn replace_route(&mut self, route: &Route) -> io::Result<()> {
        todo!()
    }

    /// Removes a route. Absent is not an error.
    pub fn delete_route(&mut self, route: &Route) -> io::Result<()> {
        todo!()
    }

    /// Notes a neighbour's hardware address for good.
    pub fn replace_neighbour(&mut self, link: u32, address: Ipv4Addr, mac: Mac) -> io::Result<()> {
        todo!()
    }
}
