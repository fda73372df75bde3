//! Which addresses this machine is known by.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use anyhow::bail;
use api::cidr::Addresses;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The addresses given; what was not given is found: the address that leads
/// to the default route, or the first one that is not loopback. One of IPv6
/// is looked for only if `ipv6`, and may be missing.
///
/// # Errors
/// When there is none of IPv4, or the first given is one of IPv6.
pub(super) fn node_ip(given: Option<Addresses>, ipv6: bool) -> anyhow::Result<Addresses> {
    let primary = match given.map(|given| given.primary()) {
        Some(IpAddr::V6(address)) => {
            bail!("--node-ip {address}: a node needs an IPv4 address, before one of IPv6")
        }
        Some(address) => address,
        None => match found(false) {
            Some(address) => address,
            None => bail!(
                "this machine has no address but loopback, and pods could not reach the API: \
                 give an interface an address, or name one with --node-ip"
            ),
        },
    };
    let secondary = given.and_then(|given| given.secondary());
    let looked_for = || found(true).filter(|_| ipv6);
    Ok(Addresses::from(primary).and(secondary.or_else(looked_for)))
}

fn found(ipv6: bool) -> Option<IpAddr> {
    by_default_route(ipv6).or_else(|| by_interface(ipv6))
}

/// Asks the kernel which source it would use; nothing is sent.
fn by_default_route(ipv6: bool) -> Option<IpAddr> {
    // Addresses that documentation is free to use, and so nobody has.
    let (any, elsewhere): (IpAddr, SocketAddr) = match ipv6 {
        false => (
            Ipv4Addr::UNSPECIFIED.into(),
            (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
        ),
        true => (
            Ipv6Addr::UNSPECIFIED.into(),
            (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
        ),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    socket.connect(elsewhere).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(usable)
}

fn by_interface(ipv6: bool) -> Option<IpAddr> {
    let interfaces = getifaddrs().ok()?;
    interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| {
            let address = interface.address?;
            match ipv6 {
                false => Some(IpAddr::V4(address.as_sockaddr_in()?.ip())),
                true => Some(IpAddr::V6(address.as_sockaddr_in6()?.ip())),
            }
        })
        .find(usable)
}

fn usable(address: &IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !link_local
}
