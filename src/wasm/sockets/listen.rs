//! Listening sockets that a program is given: of a `wasi:http` server, and of a
//! core module that accepts connections.

use super::{Claim, Refused, Sockets};
use crate::{Protocol, WasmError};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll};
use tokio::net::{TcpListener, TcpStream};

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A server's listening sockets: one, or one of each family if it listens at
/// its pod's addresses. There it also answers at the pod's loopback addresses
/// for as long as this exists.
pub(crate) struct Listener {
    first: Listening,
    second: Option<Listening>,
}

struct Listening {
    socket: TcpListener,
    address: SocketAddr,
    _claim: Claim,
}

impl Listener {
    /// Where it listens, for others to know.
    pub(crate) fn address(&self) -> SocketAddr {
        self.first.address
    }

    /// The addresses to which its sockets are bound.
    pub(crate) fn bound(&self) -> impl Iterator<Item = SocketAddr> {
        let all = std::iter::once(&self.first).chain(&self.second);
        all.filter_map(|one| one.socket.local_addr().ok())
    }

    /// Second handles on its sockets, which listen for as long as any handle is open.
    pub(crate) fn handles(&self) -> io::Result<Vec<OwnedFd>> {
        let all = std::iter::once(&self.first).chain(&self.second);
        all.map(|one| one.socket.as_fd().try_clone_to_owned()).collect()
    }

    /// The next connection. Nothing is lost when it is not awaited to its end.
    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        std::future::poll_fn(|cx| self.poll_accept(cx)).await
    }

    /// The next connection, if there is one; wakes the last who asked.
    pub(crate) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<TcpStream>> {
        for one in std::iter::once(&self.first).chain(&self.second) {
            if let Poll::Ready(accepted) = one.socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, _)| stream));
            }
        }
        Poll::Pending
    }
}

/// Listens at an address of the instance's network, and if that is the pod's
/// at the one of the other family too, on sockets that were inherited where they
/// fit, which these leave. Must be called within the guests' runtime.
pub(crate) fn listen(
    sockets: &Sockets,
    wanted: SocketAddr,
    inherited: &mut Vec<std::net::TcpListener>,
) -> Result<Listener, WasmError> {
    let sibling = sockets.sibling(wanted);
    Ok(Listener {
        first: listen_at(sockets, wanted, inherited)?,
        second: sibling
            .map(|other| listen_at(sockets, other, inherited))
            .transpose()?,
    })
}

fn listen_at(
    sockets: &Sockets,
    wanted: SocketAddr,
    inherited: &mut Vec<std::net::TcpListener>,
) -> Result<Listening, WasmError> {
    let refuse = |reason: &str| WasmError::Listen {
        address: wanted,
        reason: reason.into(),
    };
    let address = sockets.listen(wanted).map_err(|refused| match refused {
        Refused::Denied => refuse("not allowed"),
        Refused::NotBindable | Refused::Unreachable => refuse("not an address of this pod"),
    })?;
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::AddrInUse => WasmError::AddressInUse { address: wanted },
        _ => refuse(&error.to_string()),
    };
    let here = |socket: &std::net::TcpListener| socket.local_addr().is_ok_and(|bound| bound == address);
    let socket = match inherited.iter().position(here) {
        Some(at) => adopt(inherited.swap_remove(at)).map_err(failed)?,
        None => sockets.make(|| bind(address)).map_err(failed)?.map_err(failed)?,
    };
    let bound = socket.local_addr().map_err(failed)?;
    Ok(Listening {
        socket,
        address: sockets.shown_listener(bound),
        _claim: sockets.claim(Protocol::Tcp, bound),
    })
}

fn adopt(socket: std::net::TcpListener) -> io::Result<TcpListener> {
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket)
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        // The other family has a socket of its own.
        socket.set_only_v6(true)?;
    }
    // Connections of a predecessor that still linger do not hold the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
