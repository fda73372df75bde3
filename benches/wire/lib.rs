//! One HTTP/2 connection to the API, as lean as can be: it shares the machine with what is measured.

use anyhow::{Context, ensure};
use client::{Kubeconfig, tls};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A connection that is open.
#[derive(Clone)]
pub struct Wire {
    requests: SendRequest<Full<Bytes>>,
    server: String,
    token: String,
}

impl Wire {
    /// Connects to the server of a kubeconfig, with its credentials.
    pub async fn open(kubeconfig: &Kubeconfig) -> anyhow::Result<Self> {
        let config = kubeconfig.http_config();
        let tls = tls::config(&config.ca_pem, &config.credentials, &[b"h2"])?;
        let place = config.server.strip_prefix("https://").context("an https URL")?;
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        let stream = TcpStream::connect(place).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            requests,
            token: config.credentials.token,
            server: config.server,
        })
    }

    /// Sends one request and returns the answer's body, which must be one of success.
    pub async fn ask(&self, method: Method, path: &str, body: String) -> anyhow::Result<Bytes> {
        let (code, answer) = self.try_ask(method, path, body).await?;
        ensure!(code < 300, "{path}: {code} {}", String::from_utf8_lossy(&answer));
        Ok(answer)
    }

    /// Sends one request; the code and the body of its answer.
    pub async fn try_ask(&self, method: Method, path: &str, body: String) -> anyhow::Result<(u16, Bytes)> {
        let (code, body) = self.send(method, path, body).await?;
        Ok((code, body.collect().await?.to_bytes()))
    }

    /// Asks for what has no end; its body, piece by piece.
    pub async fn follow(&self, path: &str) -> anyhow::Result<Incoming> {
        let (code, body) = self.send(Method::GET, path, String::new()).await?;
        ensure!(code == 200, "{path}: {code}");
        Ok(body)
    }

    async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<(u16, Incoming)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(CONTENT_TYPE, "application/json");
        if !self.token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.token));
        }
        let request = request.body(Full::new(Bytes::from(body)))?;
        let answer = self.requests.clone().send_request(request).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }
}
