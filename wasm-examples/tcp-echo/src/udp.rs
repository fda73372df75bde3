//! UDP: an answering server and a client.

use crate::address::{resolve, show, v4};
use std::net::Ipv4Addr;
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily, IpSocketAddress};
use wasip2::sockets::udp::{
    IncomingDatagram, IncomingDatagramStream, OutgoingDatagram, OutgoingDatagramStream, UdpSocket,
};
use wasip2::sockets::udp_create_socket::create_udp_socket;

fn bound(port: u16) -> Result<UdpSocket, String> {
    let socket = create_udp_socket(IpAddressFamily::Ipv4).map_err(|e| format!("socket: {e:?}"))?;
    let address = v4(Ipv4Addr::UNSPECIFIED, port);
    socket
        .start_bind(&instance_network(), address)
        .map_err(|e| format!("bind port {port}: {e:?}"))?;
    socket
        .finish_bind()
        .map_err(|e| format!("bind port {port}: {e:?}"))?;
    Ok(socket)
}

/// Answers every datagram until the host ends the program.
pub fn serve(port: u16) -> Result<(), String> {
    let socket = bound(port)?;
    let (incoming, outgoing) = socket.stream(None).map_err(|e| format!("stream: {e:?}"))?;
    println!(
        "listening on {}",
        socket.local_address().map(show).unwrap_or_default()
    );
    loop {
        for datagram in receive(&incoming)? {
            let mut data = format!("{}: ", crate::name()).into_bytes();
            data.extend(&datagram.data);
            transmit(&outgoing, data, datagram.remote_address)?;
        }
    }
}

/// Sends one datagram, prints the first answer and who sent it.
pub fn send(target: &str, text: &str) -> Result<(), String> {
    let address = resolve(target)?;
    let socket = bound(0)?;
    let (incoming, outgoing) = socket.stream(None).map_err(|e| format!("stream: {e:?}"))?;
    transmit(&outgoing, text.as_bytes().to_vec(), address)?;
    for datagram in receive(&incoming)?.iter().take(1) {
        println!(
            "{} says {}",
            show(datagram.remote_address),
            String::from_utf8_lossy(&datagram.data)
        );
    }
    Ok(())
}

/// Waits for datagrams.
fn receive(incoming: &IncomingDatagramStream) -> Result<Vec<IncomingDatagram>, String> {
    loop {
        match incoming.receive(16) {
            Ok(datagrams) if !datagrams.is_empty() => return Ok(datagrams),
            Ok(_) | Err(ErrorCode::WouldBlock) => incoming.subscribe().block(),
            Err(error) => return Err(format!("receive: {error:?}")),
        }
    }
}

fn transmit(outgoing: &OutgoingDatagramStream, data: Vec<u8>, to: IpSocketAddress) -> Result<(), String> {
    while outgoing.check_send().map_err(|e| format!("send: {e:?}"))? == 0 {
        outgoing.subscribe().block();
    }
    let datagram = OutgoingDatagram {
        data,
        remote_address: Some(to),
    };
    outgoing
        .send(&[datagram])
        .map(drop)
        .map_err(|e| format!("send: {e:?}"))
}
