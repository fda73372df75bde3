//! Whom the server itself calls over HTTPS: webhooks, and servers that extend the API.
//!
//! ```text
//! clientConfig ─▶ Endpoint ─▶ connection (kept and used again) ─▶ POST, bounded in time and size
//!                    │ Service: through the agents' connections (nodes/dial.rs), URL: from here
//! ```

mod again;
mod correspondent;
pub mod endpoint;
mod failure;
mod pool;
mod roots;

use std::sync::Arc;
use std::time::Duration;

use base::SystemRandom;
use bytes::Bytes;
use client::Credentials;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::nodes::{Dialer, dialling};
use again::Failed;
pub use correspondent::Correspondent;
use endpoint::{Endpoint, Place};
use pool::{Pool, Sender};

/// The longest answer that is read.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// What is spoken: every server knows it.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Who asks where nobody wants to know.
static NOBODY: Credentials = Credentials {
    cert_pem: String::new(),
    key_pem: String::new(),
    token: String::new(),
};

/// A connection's bytes, whatever carries them.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A connection over which TLS has been agreed.
pub type Secured = TlsStream<Box<dyn Stream>>;

/// Calls webhooks and the like. Cheap to clone.
#[derive(Clone)]
pub struct Outbound {
    dialer: Option<Dialer>,
    pool: Arc<Pool>,
}

impl Outbound {
    /// One that reaches Services through `dialer`.
    pub fn new(dialer: Dialer) -> Self {
        Self {
            dialer: Some(dialer),
            pool: Arc::default(),
        }
    }

    /// One that reaches hosts alone, for what has to be known before there is an API.
    pub fn to_hosts() -> Self {
        Self {
            dialer: None,
            pool: Arc::default(),
        }
    }

    /// Fetches a document.
    ///
    /// # Errors
    /// What went wrong, in the words of Go's client.
    pub async fn get(&self, endpoint: &Endpoint, within: Duration) -> Result<Bytes, String> {
        let ask = Ask::new(Method::GET, Bytes::new(), &NOBODY);
        self.ask(endpoint, ask, within).await
    }

    /// Has a review answered by somebody to whom a file leads. Failures that may pass are tried again, as Kubernetes
    /// does for those who say who somebody is and what they may.
    ///
    /// # Errors
    /// As for [`Self::post`], and when the answer is no JSON.
    pub async fn review(
        &self,
        of: &Correspondent,
        review: &Value,
        within: Duration,
    ) -> Result<Value, String> {
        let body = Bytes::from(review.to_string());
        let mut pauses = again::pauses(&SystemRandom);
        loop {
            let ask = Ask::new(Method::POST, body.clone(), &of.who);
            match self.try_asking(&of.endpoint, ask, within).await {
                Ok(answer) => return serde_json::from_slice(&answer).map_err(|error| error.to_string()),
                Err(failed) => match pauses.next().filter(|_| failed.may_pass) {
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => return Err(failed.why),
                },
            }
        }
    }

    /// Posts JSON to somebody to whom a file leads, and who has nothing to say to it.
    ///
    /// # Errors
    /// As for [`Self::post`].
    pub async fn tell(&self, of: &Correspondent, body: Bytes, within: Duration) -> Result<(), String> {
        let ask = Ask::new(Method::POST, body, &of.who);
        self.ask(&of.endpoint, ask, within).await.map(drop)
    }

    /// Posts JSON and returns the body of the answer; `query` has no question mark.
    ///
    /// # Errors
    /// What went wrong, in the words of Go's client.
    pub async fn post(
        &self,
        endpoint: &Endpoint,
        query: &str,
        body: Bytes,
        within: Duration,
    ) -> Result<Bytes, String> {
        let ask = Ask {
            query,
            ..Ask::new(Method::POST, body, &NOBODY)
        };
        self.ask(endpoint, ask, within).await
    }

    async fn ask(&self, endpoint: &Endpoint, ask: Ask<'_>, within: Duration) -> Result<Bytes, String> {
        let asked = self.try_asking(endpoint, ask, within).await;
        asked.map_err(|failed| failed.why)
    }

    async fn try_asking(&self, endpoint: &Endpoint, ask: Ask<'_>, within: Duration) -> Result<Bytes, Failed> {
        let (word, shown) = (ask.word(), endpoint.shown(ask.query));
        let failed = |why: String| Failed::on_the_way(format!("{word} {shown:?}: {why}"));
        let exchanged = tokio::time::timeout(within, self.exchange(endpoint, ask)).await;
        let exchanged = exchanged.map_err(|_| failed("context deadline exceeded".to_owned()))?;
        let (code, answer) = exchanged.map_err(failed)?;
        match code {
            200..300 => Ok(answer),
            code => Err(Failed::with_code(code, failure::answered(code, &answer))),
        }
    }

    async fn exchange(&self, endpoint: &Endpoint, ask: Ask<'_>) -> Result<(u16, Bytes), String> {
        let mut request = ask.request(endpoint).map_err(|error| error.to_string())?;
        // Connections say who we are, so those of one must not serve another.
        let shared = *ask.who == Credentials::default();
        // One that was used before may have been closed meanwhile; what was not sent is sent over another.
        while let Some(mut sender) = self.pool.take(endpoint).filter(|_| shared) {
            if sender.ready().await.is_err() {
                continue;
            }
            match sender.try_send_request(request).await {
                Ok(response) => return self.read(endpoint, Some(sender), response).await,
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(broken(&error.into_error())),
                },
            }
        }
        let stream = self.connect(endpoint, ask.who).await?;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| broken(&error))?;
        self.read(endpoint, Some(sender).filter(|_| shared), response)
            .await
    }

    async fn read(
        &self,
        endpoint: &Endpoint,
        again: Option<Sender>,
        response: Response<Incoming>,
    ) -> Result<(u16, Bytes), String> {
        let code = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX)
            .collect()
            .await;
        let body = body.map_err(|error| error.to_string())?.to_bytes();
        if let Some(sender) = again {
            self.pool.put(endpoint, sender);
        }
        Ok((code, body))
    }

    /// A fresh connection, the other side's certificate checked.
    ///
    /// # Errors
    /// What went wrong, in the words of Go's libraries.
    pub async fn connect(&self, endpoint: &Endpoint, who: &Credentials) -> Result<Secured, String> {
        let config = match endpoint.authorities.as_str() {
            _ if endpoint.unchecked => client::trust::anyone_but_as(who, ALPN),
            "" => client::tls::trusting(roots::of_this_machine(), who, ALPN),
            authorities => client::tls::config(authorities, who, ALPN),
        };
        let config = config.map_err(|error| format!("unable to load root certificates: {error}"))?;
        let name = ServerName::try_from(endpoint.server_name.clone()).map_err(|error| error.to_string())?;
        let stream = self.dial(&endpoint.place).await?;
        let secured = TlsConnector::from(config).connect(name, stream).await;
        secured.map_err(|error| failure::connecting(&error, &endpoint.server_name))
    }

    async fn dial(&self, place: &Place) -> Result<Box<dyn Stream>, String> {
        match place {
            Place::Host(host, port) => {
                let connected = tokio::net::TcpStream::connect((host.as_str(), *port)).await;
                let shown = match host.contains(':') {
                    true => format!("[{host}]:{port}"),
                    false => format!("{host}:{port}"),
                };
                let stream = connected.map_err(|error| dialling(&error, &shown))?;
                // Only a matter of speed.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Place::Service(namespace, name, port) => {
                let dialer = self.dialer.as_ref();
                let dialer = dialer.ok_or_else(|| "Services cannot be reached from here".to_owned())?;
                let dialled = dialer.service(namespace, name, &port.to_string()).await;
                let dialled = dialled.map_err(|status| failure::resolving(&status, name))?;
                Ok(Box::new(dialled.stream))
            }
        }
    }
}

/// What is asked of an endpoint, and by whom.
struct Ask<'a> {
    method: Method,
    query: &'a str,
    body: Bytes,
    who: &'a Credentials,
}

impl<'a> Ask<'a> {
    fn new(method: Method, body: Bytes, who: &'a Credentials) -> Self {
        Self {
            method,
            query: "",
            body,
            who,
        }
    }

    /// What Go's client calls it in its failures.
    fn word(&self) -> &'static str {
        match self.method {
            Method::GET => "Get",
            _ => "Post",
        }
    }

    fn request(&self, endpoint: &Endpoint) -> Result<Request<Full<Bytes>>, http::Error> {
        let mark = if self.query.is_empty() { "" } else { "?" };
        let authority = endpoint.origin.trim_start_matches("https://");
        let mut request = Request::builder()
            .method(self.method.clone())
            .uri(format!("{}{mark}{}", endpoint.path, self.query))
            .header(HOST, authority)
            .header(USER_AGENT, concat!("coracle/", env!("CARGO_PKG_VERSION")))
            .header(ACCEPT, "application/json, */*");
        if self.method == Method::POST {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        if !self.who.token.is_empty() {
            request = request.header(AUTHORIZATION, format!("Bearer {}", self.who.token));
        }
        request.body(Full::new(self.body.clone()))
    }
}

/// What a broken exchange comes to: an end that came too early is what Go calls EOF.
fn broken(error: &hyper::Error) -> String {
    if error.is_incomplete_message() || error.is_closed() {
        return "EOF".to_owned();
    }
    error.to_string()
}

#[cfg(test)]
mod tests;
