//! Native servers on hyper: what requests cost where nothing stands behind them.
//!
//! ```text
//! coracle-backend ADDRESS:PORT                         HTTP/1.1; also the backend behind Services and proxies
//! coracle-backend ADDRESS:PORT CERTIFICATE KEY BYTES   HTTP/2 over TLS; takes bodies in, answers so many bytes
//! ```
//!
//! A package of its own so that it alone is optimised in the daily profile.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The body of every answer over HTTP/1.1.
const GREETING: &[u8] = b"hello from a native server\n";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        [] => plain("127.0.0.1:8080").await,
        [address] => plain(address).await,
        [address, certificate, key, bytes] => {
            sealed(address, tls(certificate, key)?, vec![b'x'; bytes.parse()?].into()).await
        }
        _ => Err("coracle-backend ADDRESS:PORT [CERTIFICATE KEY BYTES]".into()),
    }
}

async fn plain(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        tokio::spawn(async move {
            let answer = service_fn(|_| async {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(GREETING))))
            });
            // A client that goes away is its own affair.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn sealed(address: &str, tls: TlsAcceptor, text: Bytes) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let (tls, text) = (tls.clone(), text.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let text = text.clone();
                async move {
                    request.into_body().collect().await?;
                    Ok::<_, hyper::Error>(Response::new(Full::new(text)))
                }
            });
            // As above; neither does a handshake that fails concern anybody else.
            let Ok(stream) = tls.accept(stream).await else {
                return;
            };
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

fn tls(certificate: &str, key: &str) -> Result<TlsAcceptor, Box<dyn Error>> {
    let chain = CertificateDer::pem_file_iter(certificate)?.collect::<Result<Vec<_>, _>>()?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, PrivateKeyDer::from_pem_file(key)?)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
