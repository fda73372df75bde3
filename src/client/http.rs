//! The API on another machine: HTTP/2 over TLS, all requests on one connection.

mod answer;
mod deletion;
mod lines;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::request::{EventStream, Reply, Request, Verb};
use api::status::Status;
use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use self::answer::{CALL_TIMEOUT, read, refusal, warnings};
use self::deletion::delete_options;
use crate::door::Api;
use crate::places::{Place, Places};
use crate::tls::{self, Credentials, TlsError};
use crate::url;

/// How long connecting (TCP and TLS) may take, and how long if there are other servers to try.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT_EACH: Duration = Duration::from_secs(3);
/// Pings that notice a dead link, which at the edge is the normal kind.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// Which server, whom to trust, who we are.
#[derive(Clone, Debug, Default)]
pub struct HttpConfig {
    /// The server's URL, such as `https://10.0.0.5:6443`.
    pub server: String,
    /// Further servers of the same cluster, to go to when that one is away.
    pub others: Vec<String>,
    /// The serving CA's certificates, PEM.
    pub ca_pem: String,
    /// How to prove who we are.
    pub credentials: Credentials,
    /// The name to expect in the server's certificate; empty for the URL's host.
    pub server_name: String,
    /// `User-Agent`; empty for `coracle/VERSION`.
    pub user_agent: String,
}

/// Why an [`HttpApi`] cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The URL is not `https://HOST[:PORT]`.
    #[error("{0:?} is not an https URL with a host")]
    Url(String),
    /// The certificates or keys make no sense.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

type Sender = http2::SendRequest<Full<Bytes>>;

/// The door to an API server reached over HTTP. Connects when first asked and
/// again whenever the connection is lost; `request.user` is ignored, the
/// connection's credentials speak. One that knows several servers goes to the
/// next when the one it is at cannot be reached, or says that it cannot serve.
pub struct HttpApi {
    // Std mutexes: nothing awaits while they are held.
    places: Mutex<Places>,
    user_agent: HeaderValue,
    identity: Arc<Mutex<Identity>>,
    /// Held while connecting, so that a burst of requests makes one connection.
    connection: tokio::sync::Mutex<Option<Sender>>,
}

#[derive(Clone)]
struct Identity {
    h2: Arc<rustls::ClientConfig>,
    h1: Arc<rustls::ClientConfig>,
    authorization: Option<HeaderValue>,
    ca_pem: String,
}

impl Identity {
    fn new(ca_pem: &str, credentials: &Credentials) -> Result<Self, TlsError> {
        let bearer = format!("Bearer {}", credentials.token);
        let mut authorization = HeaderValue::from_str(&bearer)
            .ok()
            .filter(|_| !credentials.token.is_empty());
        if let Some(value) = &mut authorization {
            value.set_sensitive(true);
        }
        Ok(Self {
            h2: tls::config(ca_pem, credentials, &[b"h2"])?,
            h1: tls::config(ca_pem, credentials, &[b"http/1.1"])?,
            authorization,
            ca_pem: ca_pem.to_owned(),
        })
    }
}

impl HttpApi {
    /// A door to that server. Does not connect yet.
    ///
    /// # Errors
    /// When the URL, certificates or keys make no sense.
    pub fn new(config: HttpConfig) -> Result<Self, HttpError> {
        let place =
            |url: &String| Place::parse(url, &config.server_name).ok_or_else(|| HttpError::Url(url.clone()));
        let others = config.others.iter().map(place).collect::<Result<_, _>>()?;
        let agent = if config.user_agent.is_empty() {
            concat!("coracle/", env!("CARGO_PKG_VERSION"))
        } else {
            config.user_agent.as_str()
        };
        Ok(Self {
            places: Mutex::new(Places::new(place(&config.server)?, others)),
            identity: Arc::new(Mutex::new(Identity::new(&config.ca_pem, &config.credentials)?)),
            user_agent: HeaderValue::from_str(agent).map_err(|_| HttpError::Url(config.server.clone()))?,
            connection: tokio::sync::Mutex::new(None),
        })
    }

    /// A door to one server alone, for which this one speaks: whatever credentials it gets, both have.
    ///
    /// # Errors
    /// When the URL makes no sense.
    pub fn to(&self, server: &str) -> Result<Self, HttpError> {
        let place = Place::parse(server, "").ok_or_else(|| HttpError::Url(server.to_owned()))?;
        Ok(Self {
            places: Mutex::new(Places::new(place, Vec::new())),
            user_agent: self.user_agent.clone(),
            identity: self.identity.clone(),
            connection: tokio::sync::Mutex::new(None),
        })
    }

    /// From now on knows these servers beside the one it is at.
    pub fn set_others(&self, servers: &[String]) {
        let places = servers.iter().filter_map(|url| Place::parse(url, "")).collect();
        self.places().replace(places);
    }

    fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on speaks with other credentials, such as a renewed certificate.
    /// Requests under way end as they began.
    ///
    /// # Errors
    /// When certificate or key make no sense; then nothing changes.
    pub async fn set_credentials(&self, credentials: &Credentials) -> Result<(), HttpError> {
        let ca_pem = self.identity().ca_pem;
        self.set_identity(&ca_pem, credentials).await
    }

    /// The same, and from now on trusts these authorities, PEM, and no others.
    ///
    /// # Errors
    /// When one of them, certificate or key make no sense; then nothing changes.
    pub async fn set_identity(&self, ca_pem: &str, credentials: &Credentials) -> Result<(), HttpError> {
        let identity = Identity::new(ca_pem, credentials)?;
        *self.identity.lock().unwrap_or_else(PoisonError::into_inner) = identity;
        *self.connection.lock().await = None;
        Ok(())
    }

    /// A request to any path, such as `/healthz`, with its answer's code and body.
    ///
    /// # Errors
    /// 503 when the server cannot be reached, 504 when it does not answer.
    pub async fn raw(&self, method: Method, path: &str, body: Bytes) -> Result<(u16, Bytes), Status> {
        let request = self.prepare(method, path, "application/json", body)?;
        let response = self.send(request).await?;
        let code = response.status().as_u16();
        Ok((code, read(response).await?))
    }

    /// A `GET` whose answer may be of any size: hands it to `take` piece by piece.
    ///
    /// # Errors
    /// The refusal of the server; 503 when it cannot be reached or breaks off, 500 when `take` fails.
    pub async fn download(
        &self,
        path: &str,
        mut take: impl FnMut(&[u8]) -> std::io::Result<()>,
    ) -> Result<(), Status> {
        let request = self.prepare(Method::GET, path, "application/json", Bytes::new())?;
        let response = self.send(request).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            let frame =
                frame.map_err(|e| Status::unavailable(format!("the server's answer broke off: {e}")))?;
            if let Some(bytes) = frame.data_ref() {
                take(bytes).map_err(Status::internal)?;
            }
        }
        Ok(())
    }

    /// Turns a fresh connection into a stream of `protocol` by `POST path` with
    /// an `Upgrade` header.
    ///
    /// # Errors
    /// The refusal of the server; 503 when it cannot be reached.
    pub async fn upgrade(&self, path: &str, protocol: &str) -> Result<Upgraded, Status> {
        let (stream, place) = self.dial(&self.identity().h1).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(unreachable)?;
        tokio::spawn(connection.with_upgrades());
        let mut request = self.prepare(Method::POST, path, "", Bytes::new())?;
        // HTTP/1.1 has its authority in a header and its target without it.
        *request.uri_mut() = path.parse().map_err(Status::internal)?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, value(&place.authority())?);
        headers.insert(header::UPGRADE, value(protocol)?);
        headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        let response = sender.send_request(request).await.map_err(unreachable)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(refusal(response).await);
        }
        hyper::upgrade::on(response).await.map_err(unreachable)
    }

    fn identity(&self) -> Identity {
        self.identity
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn prepare(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Bytes,
    ) -> Result<http::Request<Full<Bytes>>, Status> {
        let uri = format!("https://{}{path}", self.places().at().authority());
        let mut request = http::Request::builder()
            .method(method)
            .uri(uri)
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, self.user_agent.clone());
        if !body.is_empty() {
            let media = if content_type.is_empty() {
                "application/json"
            } else {
                content_type
            };
            request = request.header(header::CONTENT_TYPE, media);
        }
        if let Some(authorization) = self.identity().authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        request.body(Full::new(body)).map_err(Status::internal)
    }

    /// Connects to the first server that can be reached.
    async fn dial(&self, tls: &Arc<rustls::ClientConfig>) -> Result<(TlsStream<TcpStream>, Place), Status> {
        let all = self.places().all();
        let patience = if all.len() > 1 {
            CONNECT_TIMEOUT_EACH
        } else {
            CONNECT_TIMEOUT
        };
        let mut failures = Vec::new();
        for place in all {
            let connected = tokio::time::timeout(patience, connect(&place, tls)).await;
            match connected.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into())) {
                Ok(stream) => {
                    self.places().arrive(&place);
                    return Ok((stream, place));
                }
                Err(error) => failures.push(format!("dial tcp {}: {error}", place.authority())),
            }
        }
        Err(Status::unavailable(failures.join("; ")))
    }

    async fn sender(&self) -> Result<Sender, Status> {
        let mut slot = self.connection.lock().await;
        if let Some(sender) = slot.as_ref().filter(|s| !s.is_closed()) {
            return Ok(sender.clone());
        }
        let (stream, _) = self.dial(&self.identity().h2).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_EVERY)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(true)
            .adaptive_window(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(unreachable)?;
        // Ends by itself when the last sender and the last body are gone or the link is.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "connection to the API server ended");
            }
        });
        *slot = Some(sender.clone());
        Ok(sender)
    }

    async fn send(&self, request: http::Request<Full<Bytes>>) -> Result<http::Response<Incoming>, Status> {
        let again = request.clone();
        let mut sender = self.sender().await?;
        match send_on(&mut sender, request).await {
            // The connection ended before the request left: it may go out on another one.
            Err(error) if error.is_canceled() || error.is_closed() => {
                let mut sender = self.sender().await?;
                send_on(&mut sender, again).await.map_err(unreachable)
            }
            other => other.map_err(unreachable),
        }
    }

    async fn exchange(&self, request: Request) -> Result<http::Response<Incoming>, Status> {
        let path = url::path_and_query(&request);
        let content_type = match request.verb {
            Verb::Patch(how) if request.content_type.is_empty() => url::patch_media_type(how),
            _ => &request.content_type,
        };
        let body = if request.body.is_empty() {
            delete_options(&request)
        } else {
            request.body.clone()
        };
        let response = self
            .send(self.prepare(url::method(request.verb), &path, content_type, body)?)
            .await?;
        if response.status() == StatusCode::SERVICE_UNAVAILABLE {
            self.leave().await;
        }
        if response.status().is_success() {
            Ok(response)
        } else {
            Err(refusal(response).await)
        }
    }

    /// The server cannot serve, such as one that was cut off from the others: the next request goes to the
    /// next one, if there is another.
    async fn leave(&self) {
        let others = {
            let mut places = self.places();
            places.leave();
            places.all().len() > 1
        };
        if others {
            *self.connection.lock().await = None;
        }
    }
}

async fn connect(place: &Place, tls: &Arc<rustls::ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
    stream.set_nodelay(true)?;
    let name = place.server_name.clone();
    TlsConnector::from(tls.clone()).connect(name, stream).await
}

async fn send_on(
    sender: &mut Sender,
    request: http::Request<Full<Bytes>>,
) -> Result<http::Response<Incoming>, hyper::Error> {
    sender.ready().await?;
    sender.send_request(request).await
}

fn value(text: &str) -> Result<HeaderValue, Status> {
    HeaderValue::from_str(text).map_err(Status::internal)
}

fn unreachable(error: hyper::Error) -> Status {
    Status::unavailable(format!("the connection to the API server failed: {error}"))
}

#[async_trait]
impl Api for HttpApi {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        let exchange = async {
            let response = self.exchange(request).await?;
            let code = response.status().as_u16();
            let warnings = warnings(response.headers());
            Ok(Reply {
                code,
                body: read(response).await?.into(),
                warnings,
            })
        };
        let answer = tokio::time::timeout(CALL_TIMEOUT, exchange).await;
        answer.unwrap_or_else(|_| Err(Status::timeout("the server did not answer in time")))
    }

    async fn watch(&self, request: Request) -> Result<EventStream, Status> {
        let exchange = tokio::time::timeout(CALL_TIMEOUT, self.exchange(request)).await;
        let response =
            exchange.unwrap_or_else(|_| Err(Status::timeout("the server did not answer in time")))?;
        Ok(lines::events(response.into_body()))
    }
}

#[cfg(test)]
mod tests;
