//! Neighbours' hardware addresses, and where a vxlan device forwards them.

use std::io;
use std::net::IpAddr;

use super::{Mac, Routing, absent_is_fine, family, ip, number, octets};
use crate::netlink::{Buffer, attribute};

/// A neighbour that is known for good, so that nobody asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its address.
    pub address: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

/// Where a vxlan device sends what is for a hardware address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Forward {
    /// The hardware address.
    pub mac: Mac,
    /// The machine that has it.
    pub to: IpAddr,
    /// The network identifier that its device listens to.
    pub vni: u32,
}

const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;
/// Entry of the device itself, not of a bridge that it may be a port of.
const NTF_SELF: u8 = 2;
const NDA_VNI: u16 = 7;
/// `struct ndmsg`: family, padding, device, state, flags, kind.
const HEADER: usize = 12;

impl Routing {
    /// Notes a neighbour's hardware address for good.
    pub fn replace_neighbour(&mut self, link: u32, neighbour: Neighbour) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let ack = self.socket.request(libc::RTM_NEWNEIGH, flags, |b| {
            header(b, family(neighbour.address), link, libc::NUD_PERMANENT, 0);
            b.attribute(libc::NDA_DST, &octets(neighbour.address))
                .attribute(libc::NDA_LLADDR, &neighbour.mac);
        })?;
        ack.into_result(&format!("neighbour {}", neighbour.address))
    }

    /// Forgets a neighbour. Absent is not an error.
    pub fn delete_neighbour(&mut self, link: u32, address: IpAddr) -> io::Result<()> {
        let ack = self.socket.request(libc::RTM_DELNEIGH, 0, |b| {
            header(b, family(address), link, 0, 0);
            b.attribute(libc::NDA_DST, &octets(address));
        })?;
        absent_is_fine(ack, &[libc::ENOENT], &format!("forget neighbour {address}"))
    }

    /// A device's neighbours that are known for good, of both families.
    pub fn neighbours(&mut self, link: u32) -> io::Result<Vec<Neighbour>> {
        let found = self.neighbour_dump(0, link)?;
        let neighbour = |attributes: &Vec<u8>| {
            Some(Neighbour {
                address: attribute(attributes, libc::NDA_DST).and_then(ip)?,
                mac: mac(attributes)?,
            })
        };
        Ok(found.iter().filter_map(neighbour).collect())
    }

    /// Adds where a vxlan device forwards a hardware address, or changes it.
    pub fn replace_forward(&mut self, link: u32, forward: &Forward) -> io::Result<()> {
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_REPLACE) as u16;
        let state = libc::NUD_PERMANENT | libc::NUD_NOARP;
        let ack = self.socket.request(libc::RTM_NEWNEIGH, flags, |b| {
            header(b, AF_BRIDGE, link, state, NTF_SELF);
            b.attribute(libc::NDA_LLADDR, &forward.mac)
                .attribute(libc::NDA_DST, &octets(forward.to))
                .attribute(NDA_VNI, &forward.vni.to_ne_bytes());
        })?;
        ack.into_result(&format!("forwarding to {}", forward.to))
    }

    /// Forwards a hardware address no more. Absent is not an error.
    pub fn delete_forward(&mut self, link: u32, mac: Mac) -> io::Result<()> {
        let ack = self.socket.request(libc::RTM_DELNEIGH, 0, |b| {
            header(b, AF_BRIDGE, link, 0, NTF_SELF);
            b.attribute(libc::NDA_LLADDR, &mac);
        })?;
        absent_is_fine(ack, &[libc::ENOENT], "delete forwarding")
    }

    /// Where a vxlan device forwards; `own_vni` is the device's own identifier,
    /// which the kernel leaves out of entries that have the same.
    pub fn forwards(&mut self, link: u32, own_vni: u32) -> io::Result<Vec<Forward>> {
        let found = self.neighbour_dump(AF_BRIDGE, link)?;
        let forward = |attributes: &Vec<u8>| {
            Some(Forward {
                mac: mac(attributes)?,
                to: attribute(attributes, libc::NDA_DST).and_then(ip)?,
                vni: attribute(attributes, NDA_VNI).and_then(number).unwrap_or(own_vni),
            })
        };
        Ok(found.iter().filter_map(forward).collect())
    }

    /// The attributes of a device's permanent entries; family 0 is all but bridges'.
    fn neighbour_dump(&mut self, family: u8, link: u32) -> io::Result<Vec<Vec<u8>>> {
        let messages = self.dump(libc::RTM_GETNEIGH, |b| header(b, family, 0, 0, 0))?;
        let ours = |body: &[u8]| {
            let (header, rest) = body.split_at_checked(HEADER)?;
            let state = u16::from_ne_bytes(header.get(8..10)?.try_into().ok()?);
            let same = number(header.get(4..8)?)? == link && state & libc::NUD_PERMANENT != 0;
            same.then(|| rest.to_vec())
        };
        Ok(messages.iter().filter_map(|m| ours(&m.body)).collect())
    }
}

fn header(b: &mut Buffer, family: u8, link: u32, state: u16, flags: u8) {
    b.raw(&[family, 0, 0, 0])
        .raw(&link.to_ne_bytes())
        .raw(&state.to_ne_bytes())
        .raw(&[flags, 0]);
}

fn mac(attributes: &[u8]) -> Option<Mac> {
    attribute(attributes, libc::NDA_LLADDR)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{VXLAN_PORT, Vxlan};
    use super::*;
    use crate::testing::as_root;

    #[test]
    fn a_vxlan_device_forwards_where_it_is_told() {
        as_root(|| {
            let mut routing = Routing::open().unwrap();
            let vxlan = Vxlan {
                vni: 0x40_1000,
                local: [192, 0, 2, 1].into(),
                mac: [0x0e, 0xc0, 10, 64, 16, 0],
                mtu: 1450,
            };
            routing.add_vxlan("cxtest", &vxlan).unwrap();
            assert_eq!(routing.vxlan("cxtest").unwrap(), Some(vxlan));
            assert_eq!(routing.vxlan("nobody").unwrap(), None);
            let link = routing.link("cxtest").unwrap().unwrap().index;
            routing.set_up(link).unwrap();
            let there = Forward {
                mac: [0x0e, 0xc0, 10, 64, 32, 0],
                to: [192, 0, 2, 2].into(),
                vni: 0x40_2000,
            };
            routing.replace_forward(link, &there).unwrap();
            routing.replace_forward(link, &there).unwrap();
            assert_eq!(routing.forwards(link, vxlan.vni).unwrap(), [there]);
            let moved = Forward {
                to: [192, 0, 2, 3].into(),
                ..there
            };
            routing.replace_forward(link, &moved).unwrap();
            assert_eq!(routing.forwards(link, vxlan.vni).unwrap(), [moved]);
            for address in ["10.64.32.0", "fd00::20"] {
                let neighbour = Neighbour {
                    address: address.parse().unwrap(),
                    mac: there.mac,
                };
                routing.replace_neighbour(link, neighbour).unwrap();
                assert_eq!(routing.neighbours(link).unwrap(), [neighbour]);
                routing.delete_neighbour(link, neighbour.address).unwrap();
                routing.delete_neighbour(link, neighbour.address).unwrap();
            }
            routing.delete_forward(link, there.mac).unwrap();
            routing.delete_forward(link, there.mac).unwrap();
            assert!(routing.forwards(link, vxlan.vni).unwrap().is_empty());
            assert_eq!(VXLAN_PORT, 4789);
        });
    }
}
