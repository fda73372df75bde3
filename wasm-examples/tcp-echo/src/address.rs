//! Addresses and names.

use std::net::{Ipv4Addr, SocketAddrV4};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::ip_name_lookup::resolve_addresses;
use wasip2::sockets::network::{ErrorCode, IpAddress, IpSocketAddress, Ipv4SocketAddress};

/// An IPv4 socket address as WASI spells it.
pub fn v4(ip: Ipv4Addr, port: u16) -> IpSocketAddress {
    let [a, b, c, d] = ip.octets();
    IpSocketAddress::Ipv4(Ipv4SocketAddress {
        port,
        address: (a, b, c, d),
    })
}

/// `HOST:PORT` with HOST a name or an address; the first IPv4 address counts.
pub fn resolve(target: &str) -> Result<IpSocketAddress, String> {
    let (host, port) = target
        .rsplit_once(':')
        .ok_or(format!("not HOST:PORT: {target}"))?;
    let port = port.parse().map_err(|_| format!("not a port: {port}"))?;
    let stream = resolve_addresses(&instance_network(), host).map_err(|e| format!("{host}: {e:?}"))?;
    loop {
        match stream.resolve_next_address() {
            Ok(Some(IpAddress::Ipv4((a, b, c, d)))) => return Ok(v4(Ipv4Addr::new(a, b, c, d), port)),
            Ok(Some(IpAddress::Ipv6(_))) => {}
            Ok(None) => return Err(format!("{host}: no IPv4 address")),
            Err(ErrorCode::WouldBlock) => stream.subscribe().block(),
            Err(error) => return Err(format!("{host}: {error:?}")),
        }
    }
}

/// An address as people write it.
pub fn show(address: IpSocketAddress) -> String {
    match address {
        IpSocketAddress::Ipv4(a) => {
            let (w, x, y, z) = a.address;
            SocketAddrV4::new(Ipv4Addr::new(w, x, y, z), a.port).to_string()
        }
        IpSocketAddress::Ipv6(a) => format!("{a:?}"),
    }
}
