//! Addresses of devices.

use std::io;
use std::net::IpAddr;

use super::{Routing, absent_is_fine, family, ip, number, octets};
use crate::netlink::attribute;

/// An address on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// The device.
    pub link: u32,
    /// The address.
    pub address: IpAddr,
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

/// No duplicate address detection, which would keep a new IPv6 address from
/// being used for a second: nobody else can have ours.
const NODAD: u8 = libc::IFA_F_NODAD as u8;

impl Routing {
    /// All addresses of both families.
    pub fn addresses(&mut self) -> io::Result<Vec<Address>> {
        let messages = self.dump(libc::RTM_GETADDR, |b| {
            b.raw(&[0; 8]);
        })?;
        Ok(messages.iter().filter_map(|m| parse_address(&m.body)).collect())
    }

    /// Adds an address; one that is there already stays.
    pub fn add_address(&mut self, address: &Address, scope: Scope) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let ack = self.socket.request(libc::RTM_NEWADDR, flags, |b| {
            b.raw(&[family(address.address), address.prefix, NODAD, scope.number()])
                .raw(&address.link.to_ne_bytes());
            b.attribute(libc::IFA_LOCAL, &octets(address.address));
            b.attribute(libc::IFA_ADDRESS, &octets(address.address));
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
            b.raw(&[family(address.address), address.prefix, 0, 0])
                .raw(&address.link.to_ne_bytes());
            b.attribute(libc::IFA_LOCAL, &octets(address.address));
        })?;
        let what = format!("delete address {}/{}", address.address, address.prefix);
        absent_is_fine(ack, &[libc::EADDRNOTAVAIL, libc::ENODEV], &what)
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

fn parse_address(body: &[u8]) -> Option<Address> {
    let (header, rest) = body.split_at_checked(8)?;
    let local = attribute(rest, libc::IFA_LOCAL).or_else(|| attribute(rest, libc::IFA_ADDRESS))?;
    Some(Address {
        link: number(header.get(4..8)?)?,
        address: ip(local)?,
        prefix: *header.get(1)?,
    })
}
