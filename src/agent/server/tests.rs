//! The link's paths on a node of fakes.

use std::sync::{Arc, OnceLock};

use client::link::frames::{self, Decoder};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::*;
use crate::certificate::Certificate;
use crate::testing::FakeNode;

async fn node_with_pod(dir: &std::path::Path, args: &[&str]) -> (FakeNode, LinkService) {
    let node = FakeNode::start(dir);
    node.assign(
        "web",
        json!({"containers": [{"name": "a", "image": "app:1", "args": args}]}),
    );
    node.until_phase("web", "Running", true).await;
    let context = Arc::new(OnceLock::new());
    let _ = context.set(node.context.clone());
    let service = LinkService {
        table: node.table.clone(),
        context,
        certificate: Certificate::default(),
    };
    (node, service)
}

fn request(method: &str, uri: &str, body: impl Into<Bytes>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(uri)
        .body(whole(body))
        .unwrap()
}

async fn text(response: Response<Body>) -> (u16, String) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8_lossy(&bytes).into_owned())
}

async fn ask(service: &LinkService, method: &str, uri: &str) -> (u16, String) {
    text(service.handle(request(method, uri, "")).await).await
}

fn decode(bytes: &[u8]) -> Vec<(u8, String)> {
    let mut decoder = Decoder::default();
    decoder.push(bytes);
    let mut found = Vec::new();
    while let Some((channel, payload)) = decoder.next_frame().unwrap() {
        found.push((channel, String::from_utf8_lossy(&payload).into_owned()));
    }
    found
}

#[tokio::test]
async fn logs() {
    let temp = tempfile::tempdir().unwrap();
    let (_node, service) = node_with_pod(temp.path(), &["print", "hello", "there"]).await;
    assert_eq!(
        ask(&service, "GET", "/logs/ns/web/a").await,
        (200, "hello there\n".to_owned())
    );
    assert_eq!(
        ask(&service, "GET", "/logs/ns/web/a?tailLines=0").await,
        (200, String::new())
    );
    let (code, body) = ask(&service, "GET", "/logs/ns/web/a?previous=true").await;
    assert_eq!(code, 400);
    assert!(
        body.contains(r#"previous terminated container \"a\" in pod \"web\" not found"#),
        "{body}"
    );
    let (code, body) = ask(&service, "GET", "/logs/ns/none/a").await;
    assert_eq!((code, body.contains(r#"pods \"none\" not found"#)), (404, true));
    let (code, _) = ask(&service, "GET", "/logs/ns/web/other").await;
    assert_eq!(code, 400);
    let (code, _) = ask(&service, "GET", "/logs/ns/web/a?tailLines=x").await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn followed_logs_end_with_their_container() {
    let temp = tempfile::tempdir().unwrap();
    let (node, service) = node_with_pod(temp.path(), &["print", "hello"]).await;
    let response = service
        .handle(request("GET", "/logs/ns/web/a?follow=true", ""))
        .await;
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(&first[..], b"hello\n");
    node.oci.end("a", 0);
    let rest = tokio::time::timeout(std::time::Duration::from_secs(5), body.collect()).await;
    assert!(rest.unwrap().is_ok());
}

async fn frames_of(service: &LinkService, uri: &str) -> Vec<(u8, String)> {
    let response = service.handle(request("POST", uri, "")).await;
    assert_eq!(response.status(), StatusCode::OK);
    decode(&response.into_body().collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn exec_tells_output_and_exit_code() {
    let temp = tempfile::tempdir().unwrap();
    let (_node, service) = node_with_pod(temp.path(), &[]).await;
    let found = frames_of(
        &service,
        "/exec/ns/web/a?command=print&command=hi+there&stdout=true",
    )
    .await;
    assert_eq!(found[0], (frames::STDOUT, "hi there\n".to_owned()));
    let status: Value = serde_json::from_str(&found[1].1).unwrap();
    assert_eq!(
        (found[1].0, &status["status"]),
        (frames::ERROR, &json!("Success"))
    );
    let found = frames_of(&service, "/exec/ns/web/a?command=exit&command=3").await;
    let status: Value = serde_json::from_str(&found[0].1).unwrap();
    assert_eq!(status["reason"], "NonZeroExitCode");
    assert_eq!(
        status["details"]["causes"][0],
        json!({"reason": "ExitCode", "message": "3"})
    );
    let (code, body) = ask(&service, "POST", "/exec/ns/web/none?command=x").await;
    assert_eq!(code, 500);
    assert!(body.contains(r#"container not found (\"none\")"#), "{body}");
}

#[tokio::test]
async fn exec_goes_both_ways_over_the_link() {
    let temp = tempfile::tempdir().unwrap();
    let (_node, service) = node_with_pod(temp.path(), &[]).await;
    let (near, far) = tokio::io::duplex(1 << 16);
    tokio::spawn(dial::tests_serve(far, service));
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(near),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let (input, pieces) = mpsc::channel::<Result<Bytes, BoxError>>(4);
    let pieces = futures_util::stream::unfold(pieces, |mut pieces| async move {
        let piece = pieces.recv().await?;
        Some((piece.map(Frame::data), pieces))
    });
    let request = Request::post("http://agent/exec/ns/web/a?command=cat&stdin=true&stdout=true")
        .body(StreamBody::new(Box::pin(pieces)))
        .unwrap();
    let mut body = sender.send_request(request).await.unwrap().into_body();
    input
        .send(Ok(frames::encode(frames::STDIN, b"ping")))
        .await
        .unwrap();
    let answer = body.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(decode(&answer), [(frames::STDOUT, "ping".to_owned())]);
    input
        .send(Ok(frames::encode(frames::CLOSE, &[frames::STDIN])))
        .await
        .unwrap();
    let rest = body.collect().await.unwrap().to_bytes();
    assert!(decode(&rest)[0].1.contains("Success"));
}

#[tokio::test]
async fn port_forward_and_dial() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let temp = tempfile::tempdir().unwrap();
    let node = FakeNode::start(temp.path());
    // On the node's network, so that there is something to connect to.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut block = [0; 1024];
                let n = stream.read(&mut block).await.unwrap();
                let asked = String::from_utf8_lossy(&block[..n]).into_owned();
                let line = asked.lines().next().unwrap_or_default().to_owned();
                let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", line.len());
                stream
                    .write_all(format!("{head}{line}").as_bytes())
                    .await
                    .unwrap();
            });
        }
    });
    node.net.pin("uid-web", [127, 0, 0, 1].into());
    node.assign("web", json!({"containers": [{"name": "a", "image": "app:1"}]}));
    node.until_phase("web", "Running", true).await;
    let context = Arc::new(OnceLock::new());
    let _ = context.set(node.context.clone());
    let service = LinkService {
        table: node.table.clone(),
        context,
        certificate: Certificate::default(),
    };
    let uri = format!("/portforward/ns/web?port={port}");
    let (code, body) = text(service.handle(request("POST", &uri, "hello\n")).await).await;
    assert_eq!((code, body.ends_with("hello")), (200, true), "{body}");
    let uri = format!("/dial/127.0.0.1:{port}");
    let (code, body) = text(service.handle(request("POST", &uri, "there\n")).await).await;
    assert_eq!((code, body.ends_with("there")), (200, true), "{body}");
    let (code, _) = ask(&service, "POST", "/dial/localhost").await;
    assert_eq!(code, 400);
    let (code, body) = ask(&service, "GET", "/node/pods").await;
    assert_eq!((code, body.contains(r#""name":"web""#)), (200, true), "{body}");
    assert_eq!(
        ask(&service, "GET", "/node/healthz").await,
        (200, "ok".to_owned())
    );
    let (code, _) = ask(&service, "POST", "/portforward/ns/web?port=0").await;
    assert_eq!(code, 400);
}
