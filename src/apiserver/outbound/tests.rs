//! Calls to a real TLS server on loopback.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_body_util::Full;
use hyper::service::service_fn;
use rustls::pki_types::PrivateKeyDer;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::nodes::NodeLinks;

struct Server {
    port: u16,
    authorities: String,
    connections: Arc<AtomicUsize>,
}

/// A server that answers with what it was sent, or as its path says.
async fn server() -> Server {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else {
                    return;
                };
                let served = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = served.await;
            });
        }
    });
    Server {
        port,
        authorities: made.cert.pem(),
        connections,
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await?.to_bytes();
    match path.as_str() {
        "/slow" => tokio::time::sleep(Duration::from_secs(60)).await,
        "/boom" => {
            let mut response = Response::new(Full::new(Bytes::from("boom")));
            *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(response);
        }
        _ => {}
    }
    Ok(Response::new(Full::new(body)))
}

fn outbound() -> Outbound {
    struct Nobody;
    #[async_trait::async_trait]
    impl client::Api for Nobody {
        async fn call(
            &self,
            request: api::request::Request,
        ) -> Result<api::request::Reply, api::status::Status> {
            Err(api::status::Status::not_found(
                "",
                &request.resource.plural,
                &request.name,
            ))
        }
        async fn watch(
            &self,
            _: api::request::Request,
        ) -> Result<api::request::EventStream, api::status::Status> {
            Err(api::status::Status::no_such_path())
        }
    }
    Outbound::new(Dialer::new(Arc::new(Nobody), NodeLinks::new()))
}

impl Server {
    fn endpoint(&self, path: &str) -> Endpoint {
        let url = format!("https://localhost:{}{path}", self.port);
        let mut made = Endpoint::of(&json!({"url": url})).unwrap();
        made.authorities = self.authorities.clone();
        made
    }
}

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn one_connection_serves_many_calls() {
    let (server, outbound) = (server().await, outbound());
    for n in 0..3 {
        let body = Bytes::from(n.to_string());
        let said = outbound.post(&server.endpoint("/"), "", body.clone(), SOON).await;
        assert_eq!(said.unwrap(), body);
    }
    assert_eq!(server.connections.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_goes_wrong_is_said_in_gos_words() {
    let (server, outbound) = (server().await, outbound());
    let origin = format!("https://localhost:{}", server.port);
    let call = async |endpoint: &Endpoint, within: Duration| {
        let said = outbound
            .post(endpoint, "timeout=1s", Bytes::from("x"), within)
            .await;
        said.unwrap_err()
    };
    assert_eq!(
        call(&server.endpoint("/slow"), Duration::from_millis(50)).await,
        format!("Post \"{origin}/slow?timeout=1s\": context deadline exceeded")
    );
    assert_eq!(
        call(&server.endpoint("/boom"), SOON).await,
        "an error on the server (\"boom\") has prevented the request from succeeding"
    );
    let mut stranger = server.endpoint("/");
    stranger.authorities = rcgen::generate_simple_self_signed(vec!["other".to_owned()])
        .unwrap()
        .cert
        .pem();
    assert_eq!(
        call(&stranger, SOON).await,
        format!(
            "Post \"{origin}/?timeout=1s\": tls: failed to verify certificate: x509: certificate signed by \
             unknown authority"
        )
    );
    let nobody = Endpoint::service("ns", "svc", 443);
    assert_eq!(
        call(&nobody, SOON).await,
        "Post \"https://svc.ns.svc:443/?timeout=1s\": service \"svc\" not found"
    );
}
