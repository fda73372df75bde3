//! The state behind the `wasi:sockets` wrapper.

use super::heirlooms::Heirlooms;
use super::nat::Nat;
use super::ports::Claim;
use super::translate::{Refused, Sockets};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use tokio::sync::Notify;
use wasmtime::component::Resource;
use wasmtime_wasi::WasiCtxView;
use wasmtime_wasi::p2::bindings::sockets::network::{self, ErrorCode, IpAddressFamily, Network};
use wasmtime_wasi::p2::bindings::sockets::{tcp_create_socket, udp_create_socket};
use wasmtime_wasi::p2::{SocketError, SocketResult, TcpSocket, UdpSocket};
use wasmtime_wasi::sockets::WasiSocketsCtxView;

/// Most sockets of one store.
const SOCKETS_MAX: usize = 4096;

/// What is known of one store's sockets beyond what wasmtime-wasi keeps: by
/// resource number, which is unique across all kinds of resource in a store.
pub(crate) struct Book {
    pub(super) sockets: Sockets,
    pub(super) traffic: Arc<Traffic>,
    pub(super) tcp: HashMap<u32, TcpEntry>,
    pub(super) udp: HashMap<u32, UdpEntry>,
    pub(super) streams: HashMap<u32, Arc<Mutex<Nat>>>,
    pub(super) heirlooms: Arc<Heirlooms>,
}

#[derive(Default)]
pub(super) struct TcpEntry {
    /// Bound on all addresses.
    pub(super) claim: Option<Claim>,
    /// The destination as the guest named it, before a service was balanced.
    pub(super) named_peer: Option<SocketAddr>,
    pub(super) counted: Option<Counted>,
    /// A second handle, if it listens.
    pub(super) handle: Option<Arc<OwnedFd>>,
}

#[derive(Default)]
pub(super) struct UdpEntry {
    pub(super) claim: Option<Claim>,
    pub(super) nat: Arc<Mutex<Nat>>,
}

impl Book {
    pub(crate) fn new(sockets: Sockets, traffic: Arc<Traffic>, heirlooms: Arc<Heirlooms>) -> Book {
        Book {
            sockets,
            traffic,
            tcp: HashMap::new(),
            udp: HashMap::new(),
            streams: HashMap::new(),
            heirlooms,
        }
    }
}

/// Counts an instance's listening sockets and the connections they accepted,
/// so that a server can be stopped as soon as it has nothing to finish.
#[derive(Default)]
pub(crate) struct Traffic {
    listeners: AtomicUsize,
    connections: AtomicUsize,
    changed: Notify,
    /// What listens, for as long as its guest has it. A std mutex: nothing awaits while it is held.
    listening: Mutex<Vec<Weak<OwnedFd>>>,
}

/// One listener or connection, until it is dropped.
pub(crate) struct Counted {
    traffic: Arc<Traffic>,
    is_listener: bool,
}

impl Traffic {
    pub(crate) fn listener(self: &Arc<Self>, handles: &[Arc<OwnedFd>]) -> Counted {
        self.listeners.fetch_add(1, SeqCst);
        let mut listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        listening.retain(|one| one.strong_count() > 0);
        listening.extend(handles.iter().map(Arc::downgrade));
        drop(listening);
        Counted {
            traffic: self.clone(),
            is_listener: true,
        }
    }

    pub(crate) fn connection(self: &Arc<Self>) -> Counted {
        self.connections.fetch_add(1, SeqCst);
        Counted {
            traffic: self.clone(),
            is_listener: false,
        }
    }

    /// Second handles on what listens.
    pub(crate) fn handles(&self) -> io::Result<Vec<OwnedFd>> {
        let listening = self.listening.lock().unwrap_or_else(PoisonError::into_inner);
        let open = listening.iter().filter_map(Weak::upgrade);
        open.map(|handle| handle.try_clone()).collect()
    }

    /// Waits until this is a server without connections. A program that does
    /// not listen never gets there.
    pub(crate) async fn drained(&self) {
        loop {
            let changed = self.changed.notified();
            if self.listeners.load(SeqCst) > 0 && self.connections.load(SeqCst) == 0 {
                return;
            }
            changed.await;
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let counter = if self.is_listener {
            &self.traffic.listeners
        } else {
            &self.traffic.connections
        };
        counter.fetch_sub(1, SeqCst);
        self.traffic.changed.notify_waiters();
    }
}

/// wasmtime-wasi's sockets, with addresses translated on the way.
pub(super) struct PodView<'a> {
    pub(super) inner: WasiSocketsCtxView<'a>,
    pub(super) book: &'a mut Book,
}

/// A guest that has sockets.
pub(crate) trait HasSockets: Send + 'static {
    /// What wasmtime-wasi keeps of it, and what is known beyond that.
    fn parts(&mut self) -> (WasiCtxView<'_>, &mut Book);
}

/// Polls a future once, whose waiting nobody has asked for yet.
fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// The result of a future that wasmtime-wasi made async only for the sake of
/// its address check; ours answers at once.
pub(super) fn at_once<T>(future: impl Future<Output = SocketResult<T>>) -> SocketResult<T> {
    match poll_once(std::pin::pin!(future)) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorCode::Unknown.into()),
    }
}

/// A second handle on a resource that the caller keeps.
pub(super) fn again<T>(resource: &Resource<T>) -> Resource<T> {
    Resource::new_borrow(resource.rep())
}

impl From<Refused> for ErrorCode {
    fn from(refused: Refused) -> ErrorCode {
        match refused {
            Refused::NotBindable => ErrorCode::AddressNotBindable,
            Refused::Denied => ErrorCode::AccessDenied,
            Refused::Unreachable => ErrorCode::RemoteUnreachable,
        }
    }
}

impl From<Refused> for SocketError {
    fn from(refused: Refused) -> SocketError {
        ErrorCode::from(refused).into()
    }
}

impl PodView<'_> {
    /// Keeps one guest from using up the descriptors of the whole process.
    pub(super) fn check_room(&self) -> SocketResult<()> {
        let has_room = self.book.tcp.len() + self.book.udp.len() < SOCKETS_MAX;
        if has_room {
            Ok(())
        } else {
            Err(ErrorCode::NewSocketLimit.into())
        }
    }

    fn check_family(&self, family: IpAddressFamily) -> SocketResult<()> {
        let usable = self
            .book
            .sockets
            .has_family(matches!(family, IpAddressFamily::Ipv6));
        if usable {
            Ok(())
        } else {
            Err(ErrorCode::NotSupported.into())
        }
    }
}

impl network::Host for PodView<'_> {
    fn convert_error_code(&mut self, error: SocketError) -> wasmtime::Result<ErrorCode> {
        network::Host::convert_error_code(&mut self.inner, error)
    }

    fn network_error_code(
        &mut self,
        error: Resource<wasmtime::Error>,
    ) -> wasmtime::Result<Option<ErrorCode>> {
        network::Host::network_error_code(&mut self.inner, error)
    }
}

impl network::HostNetwork for PodView<'_> {
    fn drop(&mut self, network: Resource<Network>) -> wasmtime::Result<()> {
        network::HostNetwork::drop(&mut self.inner, network)
    }
}

impl tcp_create_socket::Host for PodView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<TcpSocket>> {
        self.check_family(family)?;
        self.check_room()?;
        let (sockets, inner) = (self.book.sockets.clone(), &mut self.inner);
        let socket = sockets.make(|| tcp_create_socket::Host::create_tcp_socket(inner, family))??;
        self.book.tcp.insert(socket.rep(), TcpEntry::default());
        Ok(socket)
    }
}

impl udp_create_socket::Host for PodView<'_> {
    async fn create_udp_socket(&mut self, family: IpAddressFamily) -> SocketResult<Resource<UdpSocket>> {
        self.check_family(family)?;
        self.check_room()?;
        let (sockets, inner) = (self.book.sockets.clone(), &mut self.inner);
        // The socket is made in the first poll; after that it only waits for the
        // runtime to say that it can be written to.
        let mut making = Box::pin(udp_create_socket::Host::create_udp_socket(inner, family));
        let socket = match sockets.make(|| poll_once(making.as_mut()))? {
            Poll::Ready(socket) => socket,
            Poll::Pending => making.await,
        }?;
        self.book.udp.insert(socket.rep(), UdpEntry::default());
        Ok(socket)
    }
}
