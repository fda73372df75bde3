//! `wasi:sockets/tcp`: binds and connects where the pod may, the rest is
//! passed on.

use super::view::{PodView, TcpEntry, again, at_once};
use crate::Protocol;
use std::net::SocketAddr;
use std::sync::Arc;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::tcp::{self, HostTcpSocket, ShutdownType};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, DynPollable, SocketResult, TcpSocket};

impl tcp::Host for PodView<'_> {}

type Socket = Resource<TcpSocket>;

impl PodView<'_> {
    fn tcp_entry(&mut self, socket: &Socket) -> &mut TcpEntry {
        self.book.tcp.entry(socket.rep()).or_default()
    }

    /// Binds an unbound socket to the address that its connection must come from.
    fn bind_source(
        &mut self,
        socket: &Socket,
        network: &Resource<Network>,
        source: SocketAddr,
    ) -> SocketResult<()> {
        if HostTcpSocket::local_address(&mut self.inner, again(socket)).is_ok() {
            return Ok(());
        }
        at_once(HostTcpSocket::start_bind(
            &mut self.inner,
            again(socket),
            again(network),
            source.into(),
        ))?;
        HostTcpSocket::finish_bind(&mut self.inner, again(socket))
    }
}

impl HostTcpSocket for PodView<'_> {
    async fn start_bind(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let binding = self.book.sockets.bind(address.into())?;
        let left = self.heirloom(binding.address);
        // One that listens already is in the way: bound at another port, ours becomes that one.
        let mut place = binding.address;
        if left.is_some() {
            place.set_port(0);
        }
        HostTcpSocket::start_bind(&mut self.inner, again(&socket), network, place.into()).await?;
        if let Some(left) = left {
            self.succeed(&socket, left)?;
        }
        if binding.wildcard {
            let bound = HostTcpSocket::local_address(&mut self.inner, again(&socket))?;
            let claim = self.book.sockets.claim(Protocol::Tcp, SocketAddr::from(bound));
            self.tcp_entry(&socket).claim = Some(claim);
        }
        Ok(())
    }

    fn finish_bind(&mut self, socket: Socket) -> SocketResult<()> {
        HostTcpSocket::finish_bind(&mut self.inner, socket)
    }

    fn start_connect(
        &mut self,
        socket: Socket,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let named = SocketAddr::from(address);
        let route = self.book.sockets.route(named, Protocol::Tcp)?;
        if let Some(source) = route.source {
            self.bind_source(&socket, &network, SocketAddr::new(source, 0))?;
        }
        if route.peer != named {
            self.tcp_entry(&socket).named_peer = Some(named);
        }
        HostTcpSocket::start_connect(&mut self.inner, socket, network, route.peer.into())
    }

    fn finish_connect(
        &mut self,
        socket: Socket,
    ) -> SocketResult<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        HostTcpSocket::finish_connect(&mut self.inner, socket)
    }

    async fn start_listen(&mut self, socket: Socket) -> SocketResult<()> {
        let handle = self.behind(&socket).and_then(|own| own.handle().ok());
        HostTcpSocket::start_listen(&mut self.inner, again(&socket)).await?;
        let handle = handle.map(Arc::new);
        let counted = self.book.traffic.listener(handle.as_slice());
        let entry = self.tcp_entry(&socket);
        (entry.counted, entry.handle) = (Some(counted), handle);
        Ok(())
    }

    fn finish_listen(&mut self, socket: Socket) -> SocketResult<()> {
        HostTcpSocket::finish_listen(&mut self.inner, socket)
    }

    fn accept(
        &mut self,
        socket: Socket,
    ) -> SocketResult<(Socket, Resource<DynInputStream>, Resource<DynOutputStream>)> {
        self.check_room()?;
        let accepted = HostTcpSocket::accept(&mut self.inner, socket)?;
        let counted = self.book.traffic.connection();
        self.tcp_entry(&accepted.0).counted = Some(counted);
        Ok(accepted)
    }

    fn local_address(&mut self, socket: Socket) -> SocketResult<IpSocketAddress> {
        let address = HostTcpSocket::local_address(&mut self.inner, socket)?;
        Ok(self.book.sockets.shown(address.into()).into())
    }

    fn remote_address(&mut self, socket: Socket) -> SocketResult<IpSocketAddress> {
        let named = self
            .book
            .tcp
            .get(&socket.rep())
            .and_then(|entry| entry.named_peer);
        let address = HostTcpSocket::remote_address(&mut self.inner, socket)?;
        Ok(named
            .unwrap_or_else(|| self.book.sockets.shown(address.into()))
            .into())
    }

    fn is_listening(&mut self, socket: Socket) -> wasmtime::Result<bool> {
        HostTcpSocket::is_listening(&mut self.inner, socket)
    }

    fn address_family(&mut self, socket: Socket) -> wasmtime::Result<IpAddressFamily> {
        HostTcpSocket::address_family(&mut self.inner, socket)
    }

    fn set_listen_backlog_size(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        HostTcpSocket::set_listen_backlog_size(&mut self.inner, socket, value)
    }

    fn keep_alive_enabled(&mut self, socket: Socket) -> SocketResult<bool> {
        HostTcpSocket::keep_alive_enabled(&mut self.inner, socket)
    }

    fn set_keep_alive_enabled(&mut self, socket: Socket, value: bool) -> SocketResult<()> {
        HostTcpSocket::set_keep_alive_enabled(&mut self.inner, socket, value)
    }

    fn keep_alive_idle_time(&mut self, socket: Socket) -> SocketResult<u64> {
        HostTcpSocket::keep_alive_idle_time(&mut self.inner, socket)
    }

    fn set_keep_alive_idle_time(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        HostTcpSocket::set_keep_alive_idle_time(&mut self.inner, socket, value)
    }

    fn keep_alive_interval(&mut self, socket: Socket) -> SocketResult<u64> {
        HostTcpSocket::keep_alive_interval(&mut self.inner, socket)
    }

    fn set_keep_alive_interval(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        HostTcpSocket::set_keep_alive_interval(&mut self.inner, socket, value)
    }

    fn keep_alive_count(&mut self, socket: Socket) -> SocketResult<u32> {
        HostTcpSocket::keep_alive_count(&mut self.inner, socket)
    }

    fn set_keep_alive_count(&mut self, socket: Socket, value: u32) -> SocketResult<()> {
        HostTcpSocket::set_keep_alive_count(&mut self.inner, socket, value)
    }

    fn hop_limit(&mut self, socket: Socket) -> SocketResult<u8> {
        HostTcpSocket::hop_limit(&mut self.inner, socket)
    }

    fn set_hop_limit(&mut self, socket: Socket, value: u8) -> SocketResult<()> {
        HostTcpSocket::set_hop_limit(&mut self.inner, socket, value)
    }

    fn receive_buffer_size(&mut self, socket: Socket) -> SocketResult<u64> {
        HostTcpSocket::receive_buffer_size(&mut self.inner, socket)
    }

    fn set_receive_buffer_size(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        HostTcpSocket::set_receive_buffer_size(&mut self.inner, socket, value)
    }

    fn send_buffer_size(&mut self, socket: Socket) -> SocketResult<u64> {
        HostTcpSocket::send_buffer_size(&mut self.inner, socket)
    }

    fn set_send_buffer_size(&mut self, socket: Socket, value: u64) -> SocketResult<()> {
        HostTcpSocket::set_send_buffer_size(&mut self.inner, socket, value)
    }

    fn subscribe(&mut self, socket: Socket) -> wasmtime::Result<Resource<DynPollable>> {
        HostTcpSocket::subscribe(&mut self.inner, socket)
    }

    fn shutdown(&mut self, socket: Socket, how: ShutdownType) -> SocketResult<()> {
        HostTcpSocket::shutdown(&mut self.inner, socket, how)
    }

    fn drop(&mut self, socket: Socket) -> wasmtime::Result<()> {
        let rep = socket.rep();
        HostTcpSocket::drop(&mut self.inner, socket)?;
        self.book.tcp.remove(&rep);
        Ok(())
    }
}
