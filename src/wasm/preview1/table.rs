//! The sockets of one core module: those it was given, and the connections it
//! has accepted on them.

use super::errno::Errno;
use crate::sockets::{Counted, Listener, Traffic};
use futures_util::FutureExt;
use socket2::SockRef;
use std::collections::HashMap;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::net::TcpStream;

/// The first listening socket's descriptor.
pub(super) const LISTEN_FDS_START: u32 = 3;

/// The first descriptor of a connection: beyond those of files, which are given
/// out elsewhere and are fewer.
const CONNECTIONS_START: u32 = 1 << 16;

/// Most sockets of one module.
const SOCKETS_MAX: usize = 4096;

/// Sockets by descriptor.
pub(crate) struct Table {
    sockets: HashMap<u32, Socket>,
    /// Descriptors of connections that were closed, to be given out again.
    free: Vec<u32>,
    next: u32,
    traffic: Arc<Traffic>,
}

struct Socket {
    kind: Kind,
    is_nonblocking: bool,
    _counted: Counted,
}

enum Kind {
    /// In a box: connections are smaller, and many.
    Listener(Box<Listening>),
    Connection(TcpStream),
}

struct Listening {
    listener: Listener,
    /// A connection that made the listener ready and is not yet asked for.
    waiting: Option<TcpStream>,
    /// By which its sockets are handed over at an upgrade.
    _handles: Vec<Arc<OwnedFd>>,
}

/// What `fd_fdstat_get` tells of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) is_listener: bool,
    pub(super) is_nonblocking: bool,
}

/// What a module waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ready {
    ToRead,
    ToWrite,
}

impl Table {
    /// Listening sockets, from the first descriptor on.
    pub(crate) fn new(listeners: Vec<Listener>, traffic: Arc<Traffic>) -> Table {
        let given = listeners.into_iter().map(|listener| {
            // Without descriptors left it is not handed over at an upgrade, no more.
            let handles: Vec<_> = listener.handles().unwrap_or_default();
            let handles: Vec<_> = handles.into_iter().map(Arc::new).collect();
            Socket {
                is_nonblocking: false,
                _counted: traffic.listener(&handles),
                kind: Kind::Listener(Box::new(Listening {
                    listener,
                    waiting: None,
                    _handles: handles,
                })),
            }
        });
        Table {
            sockets: (LISTEN_FDS_START..).zip(given).collect(),
            free: Vec::new(),
            next: CONNECTIONS_START,
            traffic,
        }
    }

    pub(super) fn has(&self, fd: i32) -> bool {
        self.sockets.contains_key(&(fd as u32))
    }

    fn get(&mut self, fd: i32) -> Result<&mut Socket, Errno> {
        self.sockets.get_mut(&(fd as u32)).ok_or(Errno::BADF)
    }

    fn connection(&mut self, fd: i32) -> Result<(&TcpStream, bool), Errno> {
        let socket = self.get(fd)?;
        match &socket.kind {
            Kind::Connection(stream) => Ok((stream, socket.is_nonblocking)),
            Kind::Listener(_) => Err(Errno::NOTCONN),
        }
    }

    pub(super) async fn accept(&mut self, fd: i32, is_nonblocking: bool) -> Result<u32, Errno> {
        let is_full = self.sockets.len() >= SOCKETS_MAX;
        let socket = self.get(fd)?;
        let Kind::Listener(listening) = &mut socket.kind else {
            return Err(Errno::INVAL);
        };
        if is_full {
            return Err(Errno::MFILE);
        }
        let stream = match listening.waiting.take() {
            Some(stream) => stream,
            None if socket.is_nonblocking => {
                let accepted = listening.listener.accept().now_or_never();
                accepted.ok_or(Errno::AGAIN)??
            }
            None => listening.listener.accept().await?,
        };
        let connection = Socket {
            kind: Kind::Connection(stream),
            is_nonblocking,
            _counted: self.traffic.connection(),
        };
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        self.sockets.insert(number, connection);
        Ok(number)
    }

    /// Reads what has come; nothing at the end.
    pub(super) async fn read(&mut self, fd: i32, into: &mut [u8]) -> Result<usize, Errno> {
        let (stream, is_nonblocking) = self.connection(fd)?;
        loop {
            match stream.try_read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_nonblocking => {
                    stream.readable().await?;
                }
                read => return Ok(read?),
            }
        }
    }

    /// Looks at what has come, and leaves it.
    pub(super) async fn peek(&mut self, fd: i32, into: &mut [u8]) -> Result<usize, Errno> {
        let (stream, is_nonblocking) = self.connection(fd)?;
        match is_nonblocking {
            true => Ok(stream.peek(into).now_or_never().ok_or(Errno::AGAIN)??),
            false => Ok(stream.peek(into).await?),
        }
    }

    pub(super) async fn write(&mut self, fd: i32, bytes: &[u8]) -> Result<usize, Errno> {
        let (stream, is_nonblocking) = self.connection(fd)?;
        loop {
            match stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !is_nonblocking => {
                    stream.writable().await?;
                }
                written => return Ok(written?),
            }
        }
    }

    pub(super) fn shutdown(&mut self, fd: i32, how: Shutdown) -> Result<(), Errno> {
        let (stream, _) = self.connection(fd)?;
        Ok(SockRef::from(stream).shutdown(how)?)
    }

    /// Closes a socket; whether it was a listening one, whose number is not ours to give out again.
    pub(super) fn close(&mut self, fd: i32) -> bool {
        let closed = self.sockets.remove(&(fd as u32));
        let is_connection = matches!(&closed, Some(socket) if matches!(socket.kind, Kind::Connection(_)));
        if is_connection {
            self.free.push(fd as u32);
        }
        closed.is_some() && !is_connection
    }

    pub(super) fn stat(&mut self, fd: i32) -> Result<Stat, Errno> {
        let socket = self.get(fd)?;
        Ok(Stat {
            is_listener: matches!(socket.kind, Kind::Listener(_)),
            is_nonblocking: socket.is_nonblocking,
        })
    }

    pub(super) fn set_nonblocking(&mut self, fd: i32, is_nonblocking: bool) -> Result<(), Errno> {
        self.get(fd)?.is_nonblocking = is_nonblocking;
        Ok(())
    }

    /// Whether a socket is ready; wakes the last who asked. An error is readiness as well: the next call tells it.
    pub(super) fn poll_ready(
        &mut self,
        fd: i32,
        what: Ready,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Errno>> {
        let socket = match self.get(fd) {
            Ok(socket) => socket,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match (&mut socket.kind, what) {
            (Kind::Listener(listening), Ready::ToRead) => {
                if listening.waiting.is_none() {
                    listening.waiting = ready!(listening.listener.poll_accept(cx)).ok();
                }
                Poll::Ready(Ok(()))
            }
            (Kind::Listener(_), Ready::ToWrite) => Poll::Ready(Err(Errno::NOTCONN)),
            (Kind::Connection(stream), Ready::ToRead) => stream.poll_read_ready(cx).map(|_| Ok(())),
            (Kind::Connection(stream), Ready::ToWrite) => stream.poll_write_ready(cx).map(|_| Ok(())),
        }
    }
}
