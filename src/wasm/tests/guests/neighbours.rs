//! Requests from one `wasi:http` program of a pod to another need no socket, and look the same to both.

use crate::support::*;
use coracle_wasm::{AllowedHosts, Host, Instance};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

async fn serve(host: &Host, pod: &Arc<Pod>, name: &str, change: impl FnOnce(&mut Spec)) -> Instance {
    let program = compile(host, "hello-http.wasm").await;
    let mut spec = spec(&[]);
    spec.spec.network = pod.clone();
    spec.spec.http_address = Some("127.0.0.1:0".parse().unwrap());
    spec.spec.env = vec![("POD_NAME".into(), name.into())];
    change(&mut spec);
    host.start(&program, spec.spec).await.unwrap()
}

fn address(instance: &Instance) -> SocketAddr {
    instance.http_address().unwrap()
}

async fn fetch(front: &Instance, url: &str) -> (u16, String) {
    get(address(front), &format!("/fetch?url={url}")).await
}

#[tokio::test]
async fn a_neighbour_is_asked_in_memory_and_a_stranger_over_the_network() {
    let host = host();
    let (pod, other) = (Arc::new(Pod::default()), Arc::new(Pod::default()));
    let front = serve(&host, &pod, "front", |_| {}).await;
    let near = serve(&host, &pod, "near", |_| {}).await;
    let far = serve(&host, &other, "far", |_| {}).await;
    for (name, server, inside) in [("near", &near, 2), ("far", &far, 0)] {
        let port = address(server).port();
        for target in [format!("127.0.0.1:{port}"), format!("localhost:{port}")] {
            let (status, body) = fetch(&front, &format!("http://{target}/a/path")).await;
            let wanted = format!("HTTP 200\n\nhello from {name}: /a/path\n");
            assert_eq!((status, body), (200, wanted), "{target}");
        }
        let usage = server.usage();
        assert_eq!((usage.requests, usage.requests_inside), (2, inside), "{name}");
    }
    // By the network it is reached as before, and counted so.
    assert_eq!(get(address(&near), "/").await.0, 200);
    let usage = near.usage();
    assert_eq!((usage.requests, usage.requests_inside), (3, 2));
    assert_eq!(front.usage().requests_inside, 0);
}

#[tokio::test]
async fn a_failing_neighbour_fails_as_a_server_does() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let front = serve(&host, &pod, "front", |_| {}).await;
    let near = serve(&host, &pod, "near", |spec| {
        spec.spec.memory_bytes_max = Some(16 * MIB)
    })
    .await;
    let at = address(&near);
    assert_eq!(
        fetch(&front, &format!("http://{at}/panic")).await,
        (200, "HTTP 500\n\nthe wasm program failed, see its log\n".into())
    );
    let (_, text) = fetch(&front, &format!("http://{at}/env/NOTHING")).await;
    assert!(text.starts_with("HTTP 404\n\n"), "{text}");
    // Out of memory it ends, and with it what it was asked.
    let (status, text) = fetch(&front, &format!("http://{at}/alloc?mib=64")).await;
    assert!(status == 502 || text.starts_with("HTTP 5"), "{status} {text}");
    assert_eq!(wait(&near).await.code, 137);
    let (status, text) = fetch(&front, &format!("http://{at}/")).await;
    assert!(status == 502 && text.contains("ConnectionRefused"), "{text}");
}

#[tokio::test]
async fn a_neighbour_that_begins_again_is_found_again() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let front = serve(&host, &pod, "front", |_| {}).await;
    let first = serve(&host, &pod, "first", |_| {}).await;
    let at = address(&first);
    let url = format!("http://{at}/env/POD_NAME");
    assert_eq!(fetch(&front, &url).await.1, "HTTP 200\n\nfirst");

    // What was begun is finished; whoever comes later is refused.
    let front_at = address(&front);
    let slow = format!("/fetch?url=http://{at}/sleep?ms=500");
    let slow = tokio::spawn(async move { get(front_at, &slow).await });
    eventually("the slow request", || first.usage().requests_inside == 2).await;
    first.stop(Duration::from_secs(60));
    eventually("the end of accepting", || {
        std::net::TcpStream::connect(at).is_err()
    })
    .await;
    let (status, text) = fetch(&front, &url).await;
    assert!(status == 502 && text.contains("ConnectionRefused"), "{text}");
    assert_eq!(slow.await.unwrap(), (200, "HTTP 200\n\nslept\n".into()));
    assert_eq!(wait(&first).await.code, 0);

    let second = serve(&host, &pod, "second", |spec| spec.spec.http_address = Some(at)).await;
    assert_eq!(fetch(&front, &url).await.1, "HTTP 200\n\nsecond");
    assert_eq!(second.usage().requests_inside, 1);
}

#[tokio::test]
async fn what_was_not_granted_stays_forbidden() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let near = serve(&host, &pod, "near", |_| {}).await;
    let bound = serve(&host, &pod, "bound", |spec| {
        spec.spec.allowed_hosts = Some(AllowedHosts::parse(["https://example.com"]).unwrap());
    })
    .await;
    let (status, text) = fetch(&bound, &format!("http://{}/", address(&near))).await;
    assert!(status == 502 && text.contains("HttpRequestDenied"), "{text}");
    let (status, text) = fetch(&bound, &format!("http://127.0.0.1:{FORBIDDEN}/")).await;
    assert!(status == 502 && text.contains("HttpRequestDenied"), "{text}");
    let front = serve(&host, &pod, "front", |_| {}).await;
    let (status, text) = fetch(&front, &format!("http://127.0.0.1:{FORBIDDEN}/")).await;
    assert!(
        status == 502 && text.contains("DestinationIpProhibited"),
        "{text}"
    );
    assert_eq!(near.usage().requests, 0);
}

#[tokio::test]
async fn large_bodies_come_through_piece_by_piece() {
    let host = host();
    let pod = Arc::new(Pod::default());
    let dir = tempfile::tempdir().unwrap();
    let text = "0123456789abcdef".repeat(1 << 16);
    std::fs::write(dir.path().join("large"), &text).unwrap();
    let front = serve(&host, &pod, "front", |_| {}).await;
    let near = serve(&host, &pod, "near", |spec| {
        spec.spec.mounts = vec![coracle_wasm::Mount {
            host: dir.path().into(),
            inside: Default::default(),
            guest: "/data".into(),
            read_only: true,
        }];
    })
    .await;
    let url = format!("http://{}/file?path=/data/large", address(&near));
    let (status, body) = fetch(&front, &url).await;
    assert_eq!(status, 200);
    assert!(body == format!("HTTP 200\n\n{text}"), "{} bytes", body.len());
    assert_eq!(near.usage().requests_inside, 1);
}
