//! Devices that carry Ethernet to other machines in UDP.

use std::io;
use std::net::IpAddr;

use super::{Mac, Routing, check_name, ip, link_header, number, octets, parse_link};
use crate::netlink::attribute;

/// The UDP port that IANA gave to vxlan.
pub const VXLAN_PORT: u16 = 4789;

/// A vxlan device that learns nothing: it forwards as it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier of what it receives, 24 bits.
    pub vni: u32,
    /// The machine's address that it sends from.
    pub local: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
    /// Largest packet inside, in bytes.
    pub mtu: u32,
}

const INFO_VNI: u16 = 1;
const INFO_LOCAL: u16 = 4;
const INFO_LEARNING: u16 = 7;
const INFO_PORT: u16 = 15;
const INFO_LOCAL_V6: u16 = 17;

impl Routing {
    /// Makes the device. `AlreadyExists` if there is one of that name, or one
    /// on this machine that receives the same identifier.
    pub fn add_vxlan(&mut self, name: &str, vxlan: &Vxlan) -> io::Result<()> {
        check_name(name)?;
        let flags = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
        let ack = self.socket.request(libc::RTM_NEWLINK, flags, |b| {
            b.raw(&link_header(0, 0, 0)).text(libc::IFLA_IFNAME, name);
            b.attribute(libc::IFLA_ADDRESS, &vxlan.mac)
                .attribute(libc::IFLA_MTU, &vxlan.mtu.to_ne_bytes());
            b.nest(libc::IFLA_LINKINFO, |b| {
                b.text(libc::IFLA_INFO_KIND, "vxlan")
                    .nest(libc::IFLA_INFO_DATA, |b| {
                        let local = match vxlan.local {
                            IpAddr::V4(_) => INFO_LOCAL,
                            IpAddr::V6(_) => INFO_LOCAL_V6,
                        };
                        b.attribute(INFO_VNI, &vxlan.vni.to_ne_bytes())
                            .attribute(local, &octets(vxlan.local))
                            .attribute(INFO_LEARNING, &[0])
                            .attribute(INFO_PORT, &VXLAN_PORT.to_be_bytes());
                    });
            });
        })?;
        ack.into_result(&format!("add vxlan {name} with identifier {}", vxlan.vni))
    }

    /// What the vxlan device of that name is like; `None` if there is none.
    pub fn vxlan(&mut self, name: &str) -> io::Result<Option<Vxlan>> {
        self.named(name, parse)
    }
}

fn parse(body: &[u8]) -> Option<Vxlan> {
    let link = parse_link(body)?;
    let info = attribute(body.get(16..)?, libc::IFLA_LINKINFO)?;
    let data = attribute(info, libc::IFLA_INFO_DATA)?;
    let local = attribute(data, INFO_LOCAL).or_else(|| attribute(data, INFO_LOCAL_V6))?;
    Some(Vxlan {
        vni: attribute(data, INFO_VNI).and_then(number)?,
        local: ip(local)?,
        mac: link.mac?,
        mtu: link.mtu,
    })
}
