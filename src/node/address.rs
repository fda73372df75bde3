//! Which address this machine is known by.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::bail;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

/// The address given, or the one that leads to the default route, or the
/// first one that is not loopback.
///
/// # Errors
/// When there is none, or one of version 6 was given.
pub(super) fn node_ip(given: Option<IpAddr>) -> anyhow::Result<Ipv4Addr> {
    match given {
        Some(IpAddr::V4(address)) => Ok(address),
        Some(IpAddr::V6(address)) => bail!("--node-ip {address}: nodes need an IPv4 address for now"),
        None => match by_default_route().or_else(by_interface) {
            Some(address) => Ok(address),
            None => bail!(
                "this machine has no address but loopback, and pods could not reach the API: \
                 give an interface an address, or name one with --node-ip"
            ),
        },
    }
}

/// Asks the kernel which source it would use; nothing is sent.
fn by_default_route() -> Option<Ipv4Addr> {
    let elsewhere: SocketAddr = (Ipv4Addr::new(192, 0, 2, 1), 9).into();
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(elsewhere).ok()?;
    usable(socket.local_addr().ok()?.ip())
}

fn by_interface() -> Option<Ipv4Addr> {
    let interfaces = getifaddrs().ok()?;
    interfaces
        .filter(|interface| interface.flags.contains(InterfaceFlags::IFF_UP))
        .filter_map(|interface| interface.address?.as_sockaddr_in().map(|address| address.ip()))
        .find_map(|address| usable(IpAddr::V4(address)))
}

fn usable(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(v4) if !v4.is_loopback() && !v4.is_unspecified() && !v4.is_link_local() => Some(v4),
        _ => None,
    }
}
