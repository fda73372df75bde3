//! Serving `wasi:http`, and requests that guests send.

use crate::support::*;
use coracle_wasm::{ExitReason, Host, HostConfig, Instance, Mount, WasmError};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn serve_with(host: &Host, change: impl FnOnce(&mut Spec)) -> (Instance, SocketAddr) {
    let program = compile(host, "hello-http.wasm").await;
    let mut spec = spec(&[]);
    spec.spec.http_address = Some("127.0.0.1:0".parse().unwrap());
    spec.spec.env = vec![
        ("POD_NAME".into(), "pod-1".into()),
        ("COLOUR".into(), "blue".into()),
    ];
    change(&mut spec);
    let instance = host.start(&program, spec.spec).await.unwrap();
    let address = instance.http_address().unwrap();
    (instance, address)
}

async fn serve(host: &Host) -> (Instance, SocketAddr) {
    serve_with(host, |_| {}).await
}

#[tokio::test]
async fn answers_with_environment_files_and_bodies() {
    let host = host();
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("a file"), "contents").unwrap();
    let (instance, address) = serve_with(&host, |spec| {
        spec.spec.mounts = vec![Mount {
            host: dir.path().into(),
            inside: Default::default(),
            guest: "/data".into(),
            read_only: false,
        }];
        spec.spec.env.push(("READY_FILE".into(), "/data/ready".into()));
    })
    .await;
    assert_eq!(
        get(address, "/some/path").await,
        (200, "hello from pod-1: /some/path\n".into())
    );
    assert_eq!(get(address, "/env/COLOUR").await, (200, "blue".into()));
    assert_eq!(get(address, "/env/MISSING").await.0, 404);
    assert_eq!(
        get(address, "/file?path=/data/a%20file").await,
        (200, "contents".into())
    );
    assert_eq!(get(address, "/file?path=/etc/passwd").await.0, 404);
    assert_eq!(get(address, "/ready").await.0, 503);
    assert_eq!(get(address, "/write?path=/data/ready&text=yes").await.0, 200);
    assert_eq!(get(address, "/ready").await.0, 200);
    let post = "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nabcde";
    assert_eq!(
        talk(address, post.as_bytes()).await.unwrap(),
        (200, "abcde".into())
    );
    // Probes of old: no Host header.
    assert_eq!(talk(address, b"GET / HTTP/1.0\r\n\r\n").await.unwrap().0, 200);
    assert_eq!(instance.usage().requests, 10);
    assert_eq!(instance.usage().memory_bytes, 0);
}

#[tokio::test]
async fn outbound_requests_and_their_errors() {
    let host = host();
    let (_one, one) = serve(&host).await;
    let (_two, two) = serve_with(&host, |spec| {
        spec.spec.env = vec![("POD_NAME".into(), "pod-2".into())]
    })
    .await;
    let fetch = |url: String| async move { get(one, &format!("/fetch?url={url}")).await };
    let (status, body) = fetch(format!("http://{two}/hi")).await;
    assert_eq!(
        (status, body.as_str()),
        (200, "HTTP 200\n\nhello from pod-2: /hi\n")
    );
    let (status, body) = fetch(format!("http://localhost:{}/env/POD_NAME", two.port())).await;
    assert_eq!((status, body.as_str()), (200, "HTTP 200\n\npod-2"));
    let (status, body) = fetch("http://127.0.0.1:1/".into()).await;
    assert_eq!(status, 502);
    assert!(body.contains("ConnectionRefused"), "{body}");
    let (status, body) = fetch("http://no-such-name.invalid/".into()).await;
    assert_eq!(status, 502);
    assert!(body.contains("DnsError"), "{body}");
}

/// An HTTPS server for `localhost` that says `secure` to one client after another.
async fn https_server(key: &rcgen::CertifiedKey<rcgen::KeyPair>) -> SocketAddr {
    let (certificate, secret) = (key.cert.der().clone(), key.signing_key.serialize_der());
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], secret.try_into().unwrap())
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let _ = stream.read(&mut [0; 1024]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure")
                .await;
        }
    });
    address
}

#[tokio::test]
async fn outbound_https_checks_certificates() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    let port = https_server(&key).await.port();
    let bundle = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&bundle, key.cert.pem()).unwrap();
    let trusting = HostConfig {
        ca_bundle: Some(bundle.path().into()),
        ..config()
    };
    let (_guest, address) = serve(&Host::new(trusting).unwrap()).await;
    let fetch =
        |address, name| async move { get(address, &format!("/fetch?url=https://{name}:{port}/")).await };
    assert_eq!(
        fetch(address, "localhost").await,
        (200, "HTTP 200\n\nsecure".into())
    );
    let (status, body) = fetch(address, "127.0.0.1").await;
    assert!(status == 502 && body.contains("TlsCertificateError"), "{body}");
    let other = rcgen::generate_simple_self_signed(["localhost".to_string()]).unwrap();
    std::fs::write(&bundle, other.cert.pem()).unwrap();
    let distrusting = HostConfig {
        ca_bundle: Some(bundle.path().into()),
        ..config()
    };
    let (_guest, address) = serve(&Host::new(distrusting).unwrap()).await;
    let (status, body) = fetch(address, "localhost").await;
    assert!(status == 502 && body.contains("TlsCertificateError"), "{body}");
}

#[tokio::test]
async fn failing_requests_leave_the_server_alive() {
    let host = host();
    for reuse in [false, true] {
        let mut stderr = None;
        let (instance, address) = serve_with(&host, |spec| {
            spec.spec.reuse = reuse;
            stderr = Some(spec.stderr.clone());
        })
        .await;
        for _ in 0..20 {
            assert_eq!(get(address, "/panic").await.0, 500);
        }
        assert_eq!(get(address, "/").await.0, 200);
        let log = stderr.unwrap().text();
        assert!(
            log.contains("asked to panic") && log.contains("GET /panic: wasm trap: "),
            "{log}"
        );
        assert_eq!(instance.exit(), None);
    }
}

#[tokio::test]
async fn reuse_serves_many_requests_with_few_instances() {
    let host = host();
    let (instance, address) = serve_with(&host, |spec| spec.spec.reuse = true).await;
    for _ in 0..50 {
        assert_eq!(get(address, "/env/COLOUR").await.1, "blue");
    }
    let usage = instance.usage();
    assert_eq!(usage.requests, 50);
    // The idle instances are kept.
    assert!(usage.memory_bytes > 0, "{usage:?}");
    instance.stop(Duration::from_secs(10));
    assert_eq!(wait(&instance).await.code, 0);
    assert_eq!(instance.usage().memory_bytes, 0);
}

#[tokio::test]
async fn out_of_memory_ends_the_server() {
    let host = host();
    let (instance, address) = serve_with(&host, |spec| spec.spec.memory_bytes_max = Some(16 * MIB)).await;
    assert_eq!(get(address, "/alloc?mib=4").await.0, 200);
    let _ = try_get(address, "/alloc?mib=64").await;
    let exit = wait(&instance).await;
    assert_eq!((exit.code, exit.reason), (137, ExitReason::OomKilled), "{exit:?}");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn many_requests_at_once_share_the_memory_limit() {
    let host = host();
    for reuse in [false, true] {
        let (instance, address) = serve_with(&host, |spec| {
            spec.spec.memory_bytes_max = Some(8 * MIB);
            spec.spec.reuse = reuse;
        })
        .await;
        assert_eq!(get(address, "/alloc?mib=2").await.0, 200);
        let requests: Vec<_> = (0..40)
            .map(|_| tokio::spawn(get(address, "/sleep?ms=20")))
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap().0, 200);
        }
        assert_eq!(instance.exit(), None);
        assert!(instance.usage().memory_bytes_peak <= 8 * MIB);
    }
}

#[tokio::test]
async fn stop_drains() {
    let host = host();
    let (instance, address) = serve(&host).await;
    let slow = tokio::spawn(get(address, "/sleep?ms=700"));
    // Open and silent, or idle and kept alive: must not hold up the end.
    let _silent = TcpStream::connect(address).await.unwrap();
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    eventually("the slow request", || instance.usage().requests == 2).await;
    instance.stop(Duration::from_secs(30));
    eventually("the end of accepting", || {
        std::net::TcpStream::connect(address).is_err()
    })
    .await;
    assert_eq!(instance.exit(), None);
    assert_eq!(slow.await.unwrap(), (200, "slept\n".into()));
    let exit = wait(&instance).await;
    assert_eq!((exit.code, exit.reason), (0, ExitReason::Completed));
}

#[tokio::test]
async fn the_grace_ends_what_does_not_drain() {
    let host = host();
    let (instance, address) = serve(&host).await;
    let stuck = tokio::spawn(try_get(address, "/spin"));
    eventually("the request", || instance.usage().cpu_ns > 20_000_000).await;
    let start = Instant::now();
    instance.stop(Duration::from_millis(300));
    let exit = wait(&instance).await;
    assert_eq!(exit.code, 137);
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_ne!(stuck.await.unwrap().unwrap_or_default().0, 200);
}

#[tokio::test]
async fn a_port_in_use_is_a_clear_error() {
    let host = host();
    let (_first, address) = serve(&host).await;
    let program = compile(&host, "hello-http.wasm").await;
    let mut second = spec(&[]);
    second.spec.http_address = Some(address);
    let error = host.start(&program, second.spec).await.unwrap_err();
    assert!(matches!(error, WasmError::AddressInUse { .. }));
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {address}: address already in use")
    );
    let mut elsewhere = spec(&[]);
    elsewhere.spec.http_address = Some("192.0.2.1:80".parse().unwrap());
    let error = host
        .start(&program, elsewhere.spec)
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("Cannot assign requested address"), "{error}");
}

#[tokio::test]
async fn cpu_quota_holds_across_short_requests() {
    let host = host();
    let (instance, address) = serve_with(&host, |spec| spec.spec.cpu_millis_max = Some(20)).await;
    let (start, mut count) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_secs(2) {
        assert_eq!(get(address, "/").await.0, 200);
        count += 1;
    }
    let share = instance.usage().cpu_ns as f64 / start.elapsed().as_nanos() as f64;
    assert!(share < 0.04, "{share} after {count} requests");
}

#[tokio::test]
async fn who_connects_between_two_servers_is_answered_by_the_second() {
    let host = host();
    let (first, address) = serve(&host).await;
    let slow = tokio::spawn(async move { get(address, "/sleep?ms=400").await });
    assert_eq!(get(address, "/").await.0, 200);
    let sockets = first.sockets().unwrap();
    assert_eq!(sockets.len(), 1);
    first.stop(Duration::from_secs(20));
    assert_eq!(first.wait().await.code, 0);
    // What was begun is finished, and the first has no sockets any more.
    assert_eq!(slow.await.unwrap().0, 200);
    assert!(first.sockets().unwrap().is_empty());
    let waiting = tokio::spawn(async move { get(address, "/env/COLOUR").await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!waiting.is_finished());
    let (_second, again) = serve_with(&host, |spec| {
        spec.spec.http_address = Some(address);
        spec.spec.inherited = sockets.into_iter().map(Into::into).collect();
    })
    .await;
    assert_eq!(again, address);
    assert_eq!(waiting.await.unwrap(), (200, "blue".into()));
}
