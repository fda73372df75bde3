//! The listening socket of a `wasi:http` program.

use crate::sockets::{Claim, Refused, Sockets};
use crate::{Protocol, WasmError};
use socket2::{Domain, Socket, Type};
use std::io;
use std::net::SocketAddr;
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

    /// The next connection. Nothing is lost when it is not awaited to its end.
    pub(crate) async fn accept(&self) -> io::Result<TcpStream> {
        let second = async {
            match &self.second {
                Some(second) => second.socket.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            accepted = self.first.socket.accept() => accepted,
            accepted = second => accepted,
        }
        .map(|(stream, _)| stream)
    }
}

/// Listens at an address of the instance's network, and if that is the pod's
/// at the one of the other family too. Must be called within the guests' runtime.
pub(crate) fn listen(sockets: &Sockets, wanted: SocketAddr) -> Result<Listener, WasmError> {
    let sibling = sockets.sibling(wanted);
    Ok(Listener {
        first: listen_at(sockets, wanted)?,
        second: sibling.map(|other| listen_at(sockets, other)).transpose()?,
    })
}

fn listen_at(sockets: &Sockets, wanted: SocketAddr) -> Result<Listening, WasmError> {
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
    Ok(Listening {
        socket,
        address: sockets.shown_listener(bound),
        _claim: sockets.claim(Protocol::Tcp, bound),
    })
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
