//! Connections to the API, as lean as can be: they share the machine with what is measured. A crate of its own,
//! because it is optimised in daily builds too, where the rest of the benchmarks is not.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail, ensure};
use http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// One HTTP/2 connection that is open.
#[derive(Clone)]
pub struct Wire {
    requests: SendRequest<Full<Bytes>>,
    server: String,
    bearer: Option<HeaderValue>,
}

/// A revision, and when something of it arrived.
pub type Seen = (u64, Instant);

impl Wire {
    /// Connects to the server at `https://HOST:PORT`, as whom the configuration says.
    pub async fn open(server: &str, tls: Arc<ClientConfig>) -> anyhow::Result<Self> {
        let place = server.strip_prefix("https://").context("an https URL")?;
        let host = place.rsplit_once(':').map_or(place, |(host, _)| host);
        let stream = TcpStream::connect(place).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from(host.to_owned())?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(Self {
            requests,
            server: server.to_owned(),
            bearer: None,
        })
    }

    /// The same connection, its requests with a token.
    pub fn bearing(mut self, token: &str) -> anyhow::Result<Self> {
        self.bearer = Some(HeaderValue::from_str(&format!("Bearer {token}"))?);
        Ok(self)
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

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> anyhow::Result<Events> {
        let (code, body) = self.send(Method::GET, path, String::new()).await?;
        ensure!(code == 200, "{path}: {code}");
        Ok(Events(body))
    }

    async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<(u16, Incoming)> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))?;
        if let Some(bearer) = &self.bearer {
            request.headers_mut().insert(AUTHORIZATION, bearer.clone());
        }
        let answer = self.requests.clone().send_request(request).await?;
        Ok((answer.status().as_u16(), answer.into_body()))
    }
}

/// An open watch: a line for each event.
pub struct Events(Incoming);

impl Events {
    /// Takes that many events; of which revisions they are, and when they arrived.
    pub async fn take(mut self, count: usize) -> anyhow::Result<Vec<Seen>> {
        let (mut seen, mut begun) = (Vec::with_capacity(count), Vec::new());
        while seen.len() < count {
            let Some(frame) = self.0.frame().await else {
                bail!("the watch ended after {} events", seen.len());
            };
            let (frame, at) = (frame?, Instant::now());
            let Some(piece) = frame.data_ref() else { continue };
            for line in piece.split_inclusive(|byte| *byte == b'\n') {
                begun.extend_from_slice(line);
                if line.ends_with(b"\n") {
                    seen.push((revision(&begun)?, at));
                    begun.clear();
                }
            }
        }
        Ok(seen)
    }
}

/// The first resource version in an object's text, without reading the rest of it.
pub fn revision(text: &[u8]) -> anyhow::Result<u64> {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let at = text.windows(KEY.len()).position(|window| window == KEY);
    let digits = text.iter().skip(at.context("a revision")? + KEY.len());
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    Ok(digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
