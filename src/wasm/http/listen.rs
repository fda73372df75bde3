//! The listening socket of a `wasi:http` program.

use crate::sockets::{Claim, Refused, Sockets};
use crate::{Protocol, WasmError};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
use tokio::net::TcpListener;

/// Connections the kernel holds until they are accepted.
const BACKLOG: i32 = 1024;

/// A listening socket. A server on its pod's address also answers at the pod's
/// loopback address for as long as this exists.
pub(crate) struct Listener {
    pub(crate) socket: TcpListener,
    address: SocketAddr,
    _claim: Claim,
}

impl Listener {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Listens at an address of the instance's network. Must be called within the
/// guests' runtime.
pub(crate) fn listen(sockets: &Sockets, wanted: SocketAddr) -> Result<Listener, WasmError> {
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
    let socket = sockets.make(|| bind(address)).map_err(failed)?.map_err(failed)?;
    let bound = socket.local_addr().map_err(failed)?;
    let claim = sockets.claim(Protocol::Tcp, bound.port());
    Ok(Listener {
        socket,
        address: sockets.shown_listener(bound),
        _claim: claim,
    })
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Connections of a predecessor that still linger do not hold the port.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
