//! Against a small server of our own, over real TLS.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};

use api::request::{EventKind, PatchType, ResourceRef, User};
use futures_util::StreamExt;
use http_body_util::StreamBody;
use http_body_util::combinators::BoxBody;
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

fn request(verb: Verb, name: &str) -> Request {
    Request::new(
        User::anonymous(),
        verb,
        ResourceRef::new("", "v1", "pods"),
        "x",
        name,
    )
}

#[test]
fn preconditions_travel_in_a_body() {
    let mut request = request(Verb::Delete, "a");
    assert!(delete_options(&request).is_empty());
    request.options.precondition_uid = Some("u".into());
    request.options.grace_period_seconds = Some(0);
    let body: serde_json::Value = serde_json::from_slice(&delete_options(&request)).unwrap();
    assert_eq!(body["preconditions"]["uid"], "u");
    assert_eq!(body["gracePeriodSeconds"], 0);
}

#[test]
fn only_https_urls_will_do() {
    for server in ["http://h:1", "h", ""] {
        let config = HttpConfig {
            server: server.into(),
            ..HttpConfig::default()
        };
        assert!(matches!(HttpApi::new(config), Err(HttpError::Url(_))), "{server}");
    }
}

type Body = BoxBody<Bytes, Infallible>;

fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed()
}

/// Says what it was asked; `/watch` streams, `/refused` refuses, upgrades echo.
async fn answer(mut request: http::Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
    let uri = request.uri().clone();
    if request.headers().contains_key(header::UPGRADE) {
        let upgraded = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut stream = TokioIo::new(upgraded.await.unwrap());
            let mut word = [0; 4];
            stream.read_exact(&mut word).await.unwrap();
            stream.write_all(&word).await.unwrap();
        });
        let response = http::Response::builder()
            .status(101)
            .header(header::UPGRADE, "echo");
        return Ok(response
            .header(header::CONNECTION, "Upgrade")
            .body(full(""))
            .unwrap());
    }
    if uri.query().unwrap_or_default().contains("watch=true") {
        let parts = [
            "{\"type\":\"ADDED\",\"obj",
            "ect\":{\"n\":1}}\n{\"type\":\"DELETED\",\"object\":{\"n\":2}}\n",
        ];
        let frames = parts.map(|part| Ok::<_, Infallible>(Frame::data(Bytes::from(part))));
        return Ok(http::Response::new(BodyExt::boxed(StreamBody::new(
            futures_util::stream::iter(frames),
        ))));
    }
    if uri.path().ends_with("/refused") {
        let body = Status::not_found("", "pods", "refused").to_value().to_string();
        return Ok(http::Response::builder().status(404).body(full(body)).unwrap());
    }
    let token = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let text = format!("{} {uri} {token}", request.method());
    let body = serde_json::json!({ "text": text }).to_string();
    Ok(http::Response::builder()
        .header(header::WARNING, "299 - \"careful\"")
        .body(full(body))
        .unwrap())
}

struct Server {
    address: SocketAddr,
    ca_pem: String,
    connections: Arc<AtomicUsize>,
    /// Ends every connection when it is sent to.
    hang_up: tokio::sync::watch::Sender<u32>,
}

async fn serve() -> Server {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key.serialize_der().try_into().unwrap())
        .unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let hang_up = tokio::sync::watch::Sender::new(0);
    let (count, listen) = (connections.clone(), hang_up.subscribe());
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Ordering::SeqCst);
            let (acceptor, mut listen) = (acceptor.clone(), listen.clone());
            listen.mark_unchanged();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let builder = auto::Builder::new(TokioExecutor::new());
                let serving =
                    builder.serve_connection_with_upgrades(TokioIo::new(stream), service_fn(answer));
                tokio::select! { _ = serving => {}, _ = listen.changed() => {} }
            });
        }
    });
    Server {
        address,
        ca_pem,
        connections,
        hang_up,
    }
}

impl Server {
    fn api(&self) -> HttpApi {
        let credentials = Credentials {
            token: "secret".into(),
            ..Credentials::default()
        };
        let server = format!("https://{}", self.address);
        HttpApi::new(HttpConfig {
            server,
            ca_pem: self.ca_pem.clone(),
            credentials,
            ..HttpConfig::default()
        })
        .unwrap()
    }
}

#[tokio::test]
async fn requests_share_a_connection_and_outlive_it() {
    let server = serve().await;
    let api = server.api();
    let reply = api
        .call(request(Verb::Patch(PatchType::Merge), "a"))
        .await
        .unwrap();
    let text: serde_json::Value = serde_json::from_slice(&reply.body.whole()).unwrap();
    let url = format!("https://{}/api/v1/namespaces/x/pods/a", server.address);
    assert_eq!(text["text"], format!("PATCH {url} Bearer secret"));
    assert_eq!(reply.warnings, ["careful"]);
    let refused = api.call(request(Verb::Get, "refused")).await.unwrap_err();
    assert!(refused.is_not_found(), "{refused}");
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
    server.hang_up.send_modify(|n| *n += 1);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(api.call(request(Verb::Get, "a")).await.is_ok());
    assert_eq!(server.connections.load(Ordering::SeqCst), 2);
    api.set_credentials(&Credentials::default()).await.unwrap();
    let (code, body) = api.raw(Method::GET, "/healthz", Bytes::new()).await.unwrap();
    assert_eq!((code, body.ends_with(b"/healthz \"}")), (200, true));
}

#[tokio::test]
async fn watches_stream_and_upgrades_pass_bytes() {
    let server = serve().await;
    let api = server.api();
    let events: Vec<_> = api.watch(request(Verb::Watch, "")).await.unwrap().collect().await;
    let kinds: Vec<_> = events.iter().map(|e| e.as_ref().unwrap().kind).collect();
    assert_eq!(kinds, [EventKind::Added, EventKind::Deleted]);
    let mut stream = TokioIo::new(api.upgrade("/connect", "echo").await.unwrap());
    stream.write_all(b"ping").await.unwrap();
    let mut word = [0; 4];
    stream.read_exact(&mut word).await.unwrap();
    assert_eq!(&word, b"ping");
}

#[tokio::test]
async fn strangers_and_absent_servers_are_not_reached() {
    let server = serve().await;
    let stranger = server.api();
    let other = serve().await.ca_pem;
    stranger
        .set_identity(&other, &Credentials::default())
        .await
        .unwrap();
    assert_eq!(
        stranger.call(request(Verb::Get, "a")).await.unwrap_err().code,
        503
    );
    let config = HttpConfig {
        server: "https://127.0.0.1:1".into(),
        ca_pem: server.ca_pem,
        ..HttpConfig::default()
    };
    assert_eq!(
        HttpApi::new(config)
            .unwrap()
            .call(request(Verb::Get, "a"))
            .await
            .unwrap_err()
            .code,
        503
    );
}
