//! `wasi:sockets` on the plain host network.

use crate::support::*;
use coracle_wasm::{AllowedHosts, Host, Instance};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A port that is free now and that no other test of this process gets.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = 20_000 + (std::process::id() % 1000) as u16 * 10;
    loop {
        let port = start + NEXT.fetch_add(1, Ordering::Relaxed);
        if std::net::TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}

async fn server(host: &Host, args: &[&str]) -> (Instance, u16) {
    let program = compile(host, "tcp-echo.wasm").await;
    let port = free_port();
    let mut spec = spec(args);
    spec.spec.env = vec![
        ("PORT".into(), port.to_string()),
        ("POD_NAME".into(), "pod-1".into()),
    ];
    let stdout = spec.stdout.clone();
    let instance = host.start(&program, spec.spec).await.unwrap();
    eventually("listening", || stdout.text().contains("listening on")).await;
    (instance, port)
}

async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut got = String::new();
    let mut buffer = [0; 1024];
    while !got.contains(text) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "closed after {got:?}");
        got += &String::from_utf8_lossy(&buffer[..count]);
    }
    got
}

#[tokio::test]
async fn tcp_echo_for_several_at_once() {
    let host = host();
    let (instance, port) = server(&host, &[]).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        read_until(&mut stream, "hello from pod-1\n").await;
        streams.push(stream);
    }
    for (index, stream) in streams.iter_mut().enumerate() {
        let text = format!("text {index}\n");
        stream.write_all(text.as_bytes()).await.unwrap();
        assert_eq!(read_until(stream, &text).await, text);
    }
    // Stop waits for open connections, not for ever for none.
    instance.stop(Duration::from_secs(30));
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(instance.exit(), None);
    drop(streams);
    assert_eq!(wait(&instance).await.code, 0);
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());
}

#[tokio::test]
async fn who_connects_between_two_runs_is_answered_by_the_second() {
    let host = host();
    let (first, port) = server(&host, &[]).await;
    let mut begun = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    read_until(&mut begun, "hello from pod-1\n").await;
    let sockets = first.sockets().unwrap();
    assert_eq!(sockets.len(), 1);
    first.stop(Duration::from_secs(30));
    drop(begun);
    assert_eq!(wait(&first).await.code, 0);
    assert!(first.sockets().unwrap().is_empty());
    // Nobody is there, and nobody is refused.
    let mut waiting = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    waiting.write_all(b"in between\n").await.unwrap();

    let program = compile(&host, "tcp-echo.wasm").await;
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut second = spec(&[]);
    second.spec.env = vec![
        ("PORT".into(), port.to_string()),
        ("POD_NAME".into(), "pod-2".into()),
    ];
    second.spec.inherited = vec![elsewhere];
    second.spec.inherited.extend(sockets.into_iter().map(Into::into));
    let stdout = second.stdout.clone();
    let second = host.start(&program, second.spec).await.unwrap();
    let heard = read_until(&mut waiting, "in between\n").await;
    assert_eq!(heard, "hello from pod-2\nin between\n");
    assert!(
        stdout.text().contains(&format!("listening on 0.0.0.0:{port}")),
        "{}",
        stdout.text()
    );
    let mut after = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    read_until(&mut after, "hello from pod-2\n").await;
    // And so on: what was taken over can be left again.
    assert_eq!(second.sockets().unwrap().len(), 1);
}

#[tokio::test]
async fn clients_look_names_up() {
    let host = host();
    let (_server, port) = server(&host, &[]).await;
    let program = compile(&host, "tcp-echo.wasm").await;
    for target in [format!("localhost:{port}"), format!("127.0.0.1:{port}")] {
        let (exit, stdout, stderr) = run(&host, &program, spec(&["connect", &target, "ping"])).await;
        assert_eq!(exit.code, 0, "{target}: {stderr}");
        assert!(stdout.contains("hello from pod-1\nping"), "{stdout}");
        assert!(stdout.contains(&format!("-> 127.0.0.1:{port}")), "{stdout}");
    }
    let (exit, _, stderr) = run(&host, &program, spec(&["connect", "no-such-name.invalid:1", "x"])).await;
    assert_eq!(exit.code, 1);
    assert!(
        stderr.contains("name-unresolvable") || stderr.contains("temporary-resolver-failure"),
        "{stderr}"
    );
    let (exit, _, stderr) = run(&host, &program, spec(&["connect", "127.0.0.1:1", "x"])).await;
    assert_eq!(exit.code, 1);
    assert!(stderr.contains("connection-refused"), "{stderr}");
}

#[tokio::test]
async fn grants_hold_for_names_and_addresses() {
    let host = host();
    let (_server, port) = server(&host, &[]).await;
    let program = compile(&host, "tcp-echo.wasm").await;
    for (granted, name, may) in [
        (format!("tcp://localhost:{port}"), "localhost", true),
        (format!("*://127.0.0.0/8:{port}"), "127.0.0.1", true),
        (format!("tcp://example.com:{port}"), "localhost", false),
        (format!("tcp://localhost:{}", port ^ 1), "localhost", false),
        (format!("tcp://10.0.0.0/8:{port}"), "127.0.0.1", false),
    ] {
        let target = format!("{name}:{port}");
        let mut given = spec(&["connect", &target, "ping"]);
        given.spec.allowed_hosts = Some(AllowedHosts::parse([granted.as_str()]).unwrap());
        let (exit, _, stderr) = run(&host, &program, given).await;
        assert_eq!(exit.code == 0, may, "{granted} for {target}: {stderr}");
        assert!(
            may || stderr.contains("access-denied"),
            "{granted} for {target}: {stderr}"
        );
    }
}

#[tokio::test]
async fn udp_both_ways() {
    let host = host();
    let (_server, port) = server(&host, &["udp-serve"]).await;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"ping", address).unwrap();
    let mut buffer = [0; 64];
    let (count, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!((&buffer[..count], from), (&b"pod-1: ping"[..], address));
    let program = compile(&host, "tcp-echo.wasm").await;
    let target = format!("localhost:{port}");
    let (exit, stdout, stderr) = run(&host, &program, spec(&["udp-send", &target, "pong"])).await;
    assert_eq!(exit.code, 0, "{stderr}");
    assert_eq!(stdout, format!("{address} says pod-1: pong\n"));
}

#[tokio::test]
async fn a_taken_port_reaches_the_guest_as_an_error() {
    let host = host();
    let program = compile(&host, "tcp-echo.wasm").await;
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("0.0.0.0", port)).unwrap();
    let mut spec = spec(&[]);
    spec.spec.env = vec![("PORT".into(), port.to_string())];
    let (exit, _, stderr) = run(&host, &program, spec).await;
    assert_eq!(exit.code, 1);
    assert!(stderr.contains("address-in-use"), "{stderr}");
}
