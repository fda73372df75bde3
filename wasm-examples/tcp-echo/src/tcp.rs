//! TCP: a server for many connections at once, and a client.

use crate::address::{resolve, show, v4};
use std::net::Ipv4Addr;
use wasip2::io::poll::poll;
use wasip2::io::streams::{InputStream, OutputStream};
use wasip2::sockets::instance_network::instance_network;
use wasip2::sockets::network::{ErrorCode, IpAddressFamily};
use wasip2::sockets::tcp::{ShutdownType, TcpSocket};
use wasip2::sockets::tcp_create_socket::create_tcp_socket;

/// One connection. The streams are children of the socket, so they come first:
/// fields are dropped in this order.
struct Connection {
    input: InputStream,
    output: OutputStream,
    _socket: TcpSocket,
}

/// Accepts and echoes until the host ends the program.
pub fn serve(port: u16) -> Result<(), String> {
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(|e| format!("socket: {e:?}"))?;
    let address = v4(Ipv4Addr::UNSPECIFIED, port);
    socket
        .start_bind(&instance_network(), address)
        .map_err(|e| format!("bind port {port}: {e:?}"))?;
    socket
        .finish_bind()
        .map_err(|e| format!("bind port {port}: {e:?}"))?;
    socket.start_listen().map_err(|e| format!("listen: {e:?}"))?;
    socket.finish_listen().map_err(|e| format!("listen: {e:?}"))?;
    println!(
        "listening on {}",
        socket.local_address().map(show).unwrap_or_default()
    );
    let mut connections: Vec<Connection> = Vec::new();
    loop {
        let listening = socket.subscribe();
        let reading: Vec<_> = connections.iter().map(|c| c.input.subscribe()).collect();
        let pollables: Vec<_> = std::iter::once(&listening).chain(&reading).collect();
        let mut ready = poll(&pollables);
        drop((listening, reading));
        ready.sort_unstable();
        // From the back, so that removing one does not move those still to come.
        for index in ready.into_iter().rev() {
            match index.checked_sub(1) {
                Some(index) if !echo(&connections[index as usize]) => {
                    drop(connections.remove(index as usize))
                }
                Some(_) => {}
                None => connections.extend(accept(&socket)),
            }
        }
    }
}

fn accept(socket: &TcpSocket) -> Option<Connection> {
    let (socket, input, output) = socket.accept().ok()?;
    let greeting = format!("hello from {}\n", crate::name());
    output.blocking_write_and_flush(greeting.as_bytes()).ok()?;
    Some(Connection {
        input,
        output,
        _socket: socket,
    })
}

/// Sends back what has arrived; false at the end of the connection.
fn echo(connection: &Connection) -> bool {
    match connection.input.read(4096) {
        Ok(bytes) => bytes.is_empty() || connection.output.blocking_write_and_flush(&bytes).is_ok(),
        Err(_) => false,
    }
}

/// Sends a text and prints everything that comes back until the peer closes or
/// the text has come back.
pub fn connect(target: &str, text: &str) -> Result<(), String> {
    let address = resolve(target)?;
    let socket = create_tcp_socket(IpAddressFamily::Ipv4).map_err(|e| format!("socket: {e:?}"))?;
    socket
        .start_connect(&instance_network(), address)
        .map_err(|e| format!("connect {target}: {e:?}"))?;
    let (input, output) = loop {
        match socket.finish_connect() {
            Err(ErrorCode::WouldBlock) => socket.subscribe().block(),
            other => break other.map_err(|e| format!("connect {target}: {e:?}"))?,
        }
    };
    let (local, remote) = (
        socket.local_address().map(show),
        socket.remote_address().map(show),
    );
    println!(
        "connected {} -> {}",
        local.unwrap_or_default(),
        remote.unwrap_or_default()
    );
    output
        .blocking_write_and_flush(text.as_bytes())
        .map_err(|e| format!("send: {e:?}"))?;
    let mut reply = Vec::new();
    while !String::from_utf8_lossy(&reply).contains(text) {
        match input.blocking_read(4096) {
            Ok(bytes) => reply.extend(bytes),
            Err(_) => break,
        }
    }
    let _ = socket.shutdown(ShutdownType::Both);
    println!("{}", String::from_utf8_lossy(&reply));
    Ok(())
}
