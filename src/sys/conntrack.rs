//! The kernel's memory of connections, as far as it must be made to forget.
//!
//! A UDP client that keeps its port keeps its connection, and with it the
//! endpoint that was once chosen for it, also when that is long gone.

use std::io;
use std::net::{IpAddr, SocketAddr};

use crate::netlink::{Buffer, Family, Socket, attribute};

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = SUBSYSTEM | 1;
const DELETE: u16 = SUBSYSTEM | 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;

/// A connection, as its client sees it and as its server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Protocol number of the IP header.
    pub protocol: u8,
    /// The client.
    pub client: SocketAddr,
    /// Whom the client meant.
    pub destination: SocketAddr,
    /// Who answers.
    pub server: SocketAddr,
}

/// Makes the kernel forget the connections that `wanted` picks, in the
/// calling thread's network namespace. Returns how many there were.
///
/// Reads the whole table: milliseconds where there are many thousands.
pub fn forget(wanted: impl Fn(&Flow) -> bool) -> io::Result<usize> {
    let mut socket = Socket::open(Family::Netfilter)?;
    let all = |b: &mut Buffer| header(b, libc::AF_UNSPEC);
    let messages = match socket.dump(GET, all) {
        // A table that changed meanwhile: what was missed came just now, by
        // the rules of now.
        Err(e) if e.kind() == io::ErrorKind::Interrupted => socket.dump(GET, all)?,
        other => other?,
    };
    let mut count = 0;
    for message in messages {
        let Some(body) = message.body.get(4..) else {
            continue;
        };
        let Some(original) = attribute(body, ORIGINAL) else {
            continue;
        };
        let Some(flow) = parse(body).filter(|flow| wanted(flow)) else {
            continue;
        };
        let family = if flow.client.is_ipv4() {
            libc::AF_INET
        } else {
            libc::AF_INET6
        };
        let ack = socket.request(DELETE, 0, |b| {
            header(b, family);
            b.nest(ORIGINAL, |b| {
                b.raw(original);
            });
        })?;
        // Some end by themselves meanwhile.
        if ack.errno != libc::ENOENT {
            ack.into_result("forget connection")?;
            count += 1;
        }
    }
    Ok(count)
}

fn header(b: &mut Buffer, family: i32) {
    b.raw(&[family as u8, 0, 0, 0]);
}

fn parse(body: &[u8]) -> Option<Flow> {
    let (protocol, client, destination) = tuple(attribute(body, ORIGINAL)?)?;
    let (_, server, _) = tuple(attribute(body, REPLY)?)?;
    Some(Flow {
        protocol,
        client,
        destination,
        server,
    })
}

/// Protocol, source and destination.
fn tuple(bytes: &[u8]) -> Option<(u8, SocketAddr, SocketAddr)> {
    let (ip, transport) = (attribute(bytes, 1)?, attribute(bytes, 2)?);
    let port = |kind| {
        attribute(transport, kind)?
            .try_into()
            .ok()
            .map(u16::from_be_bytes)
    };
    let end = |v4, v6, port_kind| Some(SocketAddr::new(address(ip, v4, v6)?, port(port_kind)?));
    Some((*attribute(transport, 1)?.first()?, end(1, 3, 2)?, end(2, 4, 3)?))
}

/// The address in the attribute of one family or the other.
fn address(ip: &[u8], v4: u16, v6: u16) -> Option<IpAddr> {
    match attribute(ip, v4) {
        Some(bytes) => Some(IpAddr::from(<[u8; 4]>::try_from(bytes).ok()?)),
        None => Some(IpAddr::from(<[u8; 16]>::try_from(attribute(ip, v6)?).ok()?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(b: &mut Buffer, kind: u16, source: [u8; 4], destination: [u8; 4], ports: [u16; 2]) {
        b.nest(kind, |b| {
            b.nest(1, |b| {
                b.attribute(1, &source).attribute(2, &destination);
            });
            b.nest(2, |b| {
                b.attribute(1, &[17]).attribute(2, &ports[0].to_be_bytes());
                b.attribute(3, &ports[1].to_be_bytes());
            });
        });
    }

    #[test]
    fn both_directions_make_a_flow() {
        let mut b = Buffer::new();
        write(&mut b, ORIGINAL, [10, 0, 0, 1], [10, 43, 0, 7], [4000, 53]);
        write(&mut b, REPLY, [10, 64, 0, 2], [10, 0, 0, 1], [5353, 4000]);
        let flow = parse(b.bytes()).unwrap();
        assert_eq!(flow.protocol, 17);
        assert_eq!(flow.client.to_string(), "10.0.0.1:4000");
        assert_eq!(flow.destination.to_string(), "10.43.0.7:53");
        assert_eq!(flow.server.to_string(), "10.64.0.2:5353");
        assert_eq!(parse(&b.bytes()[..20]), None);
    }
}
