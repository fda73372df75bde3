//! `wasi:sockets/udp`: binds, connects and sends where the pod may, the rest
//! is passed on.

use super::nat::Nat;
use super::view::{PodView, UdpEntry, again};
use crate::Protocol;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress, Network};
use wasmtime_wasi::p2::bindings::sockets::udp::{
    self, HostIncomingDatagramStream, HostOutgoingDatagramStream, HostUdpSocket, IncomingDatagram,
    IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream,
};
use wasmtime_wasi::p2::{DynPollable, SocketResult, UdpSocket};

fn lock(nat: &Mutex<Nat>) -> MutexGuard<'_, Nat> {
    nat.lock().unwrap_or_else(PoisonError::into_inner)
}

impl udp::Host for PodView<'_> {}

impl PodView<'_> {
    fn udp_entry(&mut self, socket: &Resource<UdpSocket>) -> &mut UdpEntry {
        self.book.udp.entry(socket.rep()).or_default()
    }

    fn nat_of_stream(&self, rep: u32) -> Arc<Mutex<Nat>> {
        self.book.streams.get(&rep).cloned().unwrap_or_default()
    }
}

impl HostUdpSocket for PodView<'_> {
    async fn start_bind(
        &mut self,
        socket: Resource<UdpSocket>,
        network: Resource<Network>,
        address: IpSocketAddress,
    ) -> SocketResult<()> {
        let binding = self.book.sockets.bind(address.into())?;
        HostUdpSocket::start_bind(&mut self.inner, again(&socket), network, binding.address.into()).await?;
        if binding.wildcard {
            let bound = HostUdpSocket::local_address(&mut self.inner, again(&socket))?;
            let claim = self.book.sockets.claim(Protocol::Udp, SocketAddr::from(bound));
            self.udp_entry(&socket).claim = Some(claim);
        }
        Ok(())
    }

    fn finish_bind(&mut self, socket: Resource<UdpSocket>) -> SocketResult<()> {
        HostUdpSocket::finish_bind(&mut self.inner, socket)
    }

    async fn stream(
        &mut self,
        socket: Resource<UdpSocket>,
        peer: Option<IpSocketAddress>,
    ) -> SocketResult<(Resource<IncomingDatagramStream>, Resource<OutgoingDatagramStream>)> {
        let nat = self.udp_entry(&socket).nat.clone();
        let peer = match peer {
            Some(named) => Some(
                lock(&nat)
                    .forward(named.into(), &self.book.sockets, Instant::now())?
                    .into(),
            ),
            None => None,
        };
        let (incoming, outgoing) = HostUdpSocket::stream(&mut self.inner, socket, peer).await?;
        self.book.streams.insert(incoming.rep(), nat.clone());
        self.book.streams.insert(outgoing.rep(), nat);
        Ok((incoming, outgoing))
    }

    fn local_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let address = HostUdpSocket::local_address(&mut self.inner, socket)?;
        Ok(self.book.sockets.shown(address.into()).into())
    }

    fn remote_address(&mut self, socket: Resource<UdpSocket>) -> SocketResult<IpSocketAddress> {
        let nat = self.udp_entry(&socket).nat.clone();
        let address = HostUdpSocket::remote_address(&mut self.inner, socket)?;
        Ok(lock(&nat).shown(address.into(), &self.book.sockets).into())
    }

    fn address_family(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<IpAddressFamily> {
        HostUdpSocket::address_family(&mut self.inner, socket)
    }

    fn unicast_hop_limit(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u8> {
        HostUdpSocket::unicast_hop_limit(&mut self.inner, socket)
    }

    fn set_unicast_hop_limit(&mut self, socket: Resource<UdpSocket>, value: u8) -> SocketResult<()> {
        HostUdpSocket::set_unicast_hop_limit(&mut self.inner, socket, value)
    }

    fn receive_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        HostUdpSocket::receive_buffer_size(&mut self.inner, socket)
    }

    fn set_receive_buffer_size(&mut self, socket: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        HostUdpSocket::set_receive_buffer_size(&mut self.inner, socket, value)
    }

    fn send_buffer_size(&mut self, socket: Resource<UdpSocket>) -> SocketResult<u64> {
        HostUdpSocket::send_buffer_size(&mut self.inner, socket)
    }

    fn set_send_buffer_size(&mut self, socket: Resource<UdpSocket>, value: u64) -> SocketResult<()> {
        HostUdpSocket::set_send_buffer_size(&mut self.inner, socket, value)
    }

    fn subscribe(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<Resource<DynPollable>> {
        HostUdpSocket::subscribe(&mut self.inner, socket)
    }

    fn drop(&mut self, socket: Resource<UdpSocket>) -> wasmtime::Result<()> {
        let rep = socket.rep();
        HostUdpSocket::drop(&mut self.inner, socket)?;
        self.book.udp.remove(&rep);
        Ok(())
    }
}

impl HostIncomingDatagramStream for PodView<'_> {
    fn receive(
        &mut self,
        stream: Resource<IncomingDatagramStream>,
        max_results: u64,
    ) -> SocketResult<Vec<IncomingDatagram>> {
        let nat = self.nat_of_stream(stream.rep());
        let mut datagrams = HostIncomingDatagramStream::receive(&mut self.inner, stream, max_results)?;
        for datagram in &mut datagrams {
            let peer = datagram.remote_address.into();
            datagram.remote_address = lock(&nat).shown(peer, &self.book.sockets).into();
        }
        Ok(datagrams)
    }

    fn subscribe(
        &mut self,
        stream: Resource<IncomingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        HostIncomingDatagramStream::subscribe(&mut self.inner, stream)
    }

    fn drop(&mut self, stream: Resource<IncomingDatagramStream>) -> wasmtime::Result<()> {
        self.book.streams.remove(&stream.rep());
        HostIncomingDatagramStream::drop(&mut self.inner, stream)
    }
}

impl HostOutgoingDatagramStream for PodView<'_> {
    fn check_send(&mut self, stream: Resource<OutgoingDatagramStream>) -> SocketResult<u64> {
        HostOutgoingDatagramStream::check_send(&mut self.inner, stream)
    }

    fn send(
        &mut self,
        stream: Resource<OutgoingDatagramStream>,
        mut datagrams: Vec<OutgoingDatagram>,
    ) -> SocketResult<u64> {
        let (nat, now) = (self.nat_of_stream(stream.rep()), Instant::now());
        let mut refused = None;
        for (index, datagram) in datagrams.iter_mut().enumerate() {
            let Some(named) = datagram.remote_address else {
                continue;
            };
            match lock(&nat).forward(named.into(), &self.book.sockets, now) {
                Ok(peer) => datagram.remote_address = Some(peer.into()),
                Err(why) => {
                    refused = Some((index, why));
                    break;
                }
            }
        }
        // The interface reports an error only if nothing was sent at all.
        match refused {
            Some((0, why)) => return Err(ErrorCode::from(why).into()),
            Some((index, _)) => datagrams.truncate(index),
            None => {}
        }
        HostOutgoingDatagramStream::send(&mut self.inner, stream, datagrams)
    }

    fn subscribe(
        &mut self,
        stream: Resource<OutgoingDatagramStream>,
    ) -> wasmtime::Result<Resource<DynPollable>> {
        HostOutgoingDatagramStream::subscribe(&mut self.inner, stream)
    }

    async fn drop(&mut self, stream: Resource<OutgoingDatagramStream>) -> wasmtime::Result<()> {
        self.book.streams.remove(&stream.rep());
        HostOutgoingDatagramStream::drop(&mut self.inner, stream).await
    }
}
