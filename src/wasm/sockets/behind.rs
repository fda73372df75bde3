//! The socket behind a resource of wasmtime-wasi's, and another put in its place.

use super::view::{PodView, again};
use base::random::{Random, SystemRandom};
use std::net::{SocketAddr, TcpListener};
use sys::marked::{Mark, Marked};
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::ErrorCode;
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket;
use wasmtime_wasi::p2::{SocketResult, TcpSocket};

/// Most that the kernel takes for the times between questions to a silent peer, in seconds.
const MARK_MAX: u64 = 32_767;

const SECOND_NS: u64 = 1_000_000_000;

/// Finding the socket behind a resource. wasmtime-wasi does not show it, but sets its options as it is told.
impl PodView<'_> {
    /// What was left at an address that the guest is about to bind.
    pub(super) fn heirloom(&self, address: SocketAddr) -> Option<TcpListener> {
        self.book.heirlooms.take(address)
    }

    /// Has the guest's socket be the one that was left.
    pub(super) fn succeed(&mut self, socket: &Resource<TcpSocket>, left: TcpListener) -> SocketResult<()> {
        let own = self.behind(socket).ok_or(ErrorCode::AddressInUse)?;
        let placed = left.set_nonblocking(true).and_then(|()| own.replace(left.into()));
        placed.map_err(|_| ErrorCode::AddressInUse.into())
    }

    /// The socket that a resource stands for.
    pub(super) fn behind(&mut self, socket: &Resource<TcpSocket>) -> Option<Marked> {
        let idle_ns = HostTcpSocket::keep_alive_idle_time(&mut self.inner, again(socket)).ok()?;
        let interval_ns = HostTcpSocket::keep_alive_interval(&mut self.inner, again(socket)).ok()?;
        let found = self.search(socket);
        self.set(socket, idle_ns, interval_ns)?;
        found
    }

    fn search(&mut self, socket: &Resource<TcpSocket>) -> Option<Marked> {
        let first = self.mark(socket)?;
        let found = Marked::find(first).ok()??;
        // Another guest may have guessed the mark for a socket of its own, but that one does not follow.
        let second = self.mark(socket)?;
        found.bears(second).then_some(found)
    }

    fn mark(&mut self, socket: &Resource<TcpSocket>) -> Option<Mark> {
        let number = || 1 + SystemRandom.below(MARK_MAX) as u16;
        let mark = Mark {
            idle_s: number(),
            interval_s: number(),
        };
        let ns = |seconds: u16| u64::from(seconds) * SECOND_NS;
        self.set(socket, ns(mark.idle_s), ns(mark.interval_s))?;
        Some(mark)
    }

    fn set(&mut self, socket: &Resource<TcpSocket>, idle_ns: u64, interval_ns: u64) -> Option<()> {
        HostTcpSocket::set_keep_alive_idle_time(&mut self.inner, again(socket), idle_ns).ok()?;
        HostTcpSocket::set_keep_alive_interval(&mut self.inner, again(socket), interval_ns).ok()
    }
}
