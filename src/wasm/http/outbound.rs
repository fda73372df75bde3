//! Sends a guest's HTTP requests: names by the embedder's resolver, services
//! balanced, from the pod's own address; to another program of the same pod in
//! memory.

use super::Tls;
use super::body::Timed;
use super::neighbour::Neighbour;
use crate::Protocol;
use crate::network::ResolveError;
use crate::sockets::{Refused, Route, Sockets};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response, Uri};
use hyper_util::rt::TokioIo;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use wasmtime_wasi::runtime::{AbortOnDropJoinHandle, spawn};
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// For guests that set no times of their own; as wasmtime does by default.
const TIMEOUT: Duration = Duration::from_secs(600);

/// How long one address may take to answer while there are others to try.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);

/// The way out for one instance's requests.
#[derive(Clone)]
pub(crate) struct Outbound {
    sockets: Sockets,
    tls: Arc<Tls>,
}

type Work = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(Response<WasiBody>, Work), Error>;

impl Outbound {
    pub(crate) fn new(sockets: Sockets, tls: Arc<Tls>) -> Outbound {
        Outbound { sockets, tls }
    }
}

impl WasiHttpHooks for Outbound {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Work,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        let outbound = self.clone();
        Box::new(async move { outbound.send(request, options.unwrap_or_default()).await })
    }

    // The default logs a warning; a client that goes away is none.
    fn p2_error_from_hyper(&mut self, error: &hyper::Error) -> ErrorCode {
        tracing::trace!(%error, "request body of a wasm guest");
        ErrorCode::HttpProtocolError
    }
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// What answers a request.
enum Peer {
    /// Another program of the pod.
    Neighbour(Neighbour),
    /// Whoever is at the other end of a connection.
    Far(http1::SendRequest<WasiBody>, AbortOnDropJoinHandle<()>),
}

/// Where an address leads.
enum Reached {
    Neighbour(Neighbour),
    Stream(TcpStream),
}

impl Outbound {
    async fn send(&self, mut request: Request<WasiBody>, options: RequestOptions) -> Sent {
        let connect = timeout(
            options.connect_timeout.unwrap_or(TIMEOUT),
            self.connect(request.uri(), request.method()),
        );
        let peer = connect.await.map_err(|_| Error::ConnectionTimeout)??;
        // A server is asked for a path; the whole address is for proxies.
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;
        let first_byte = options.first_byte_timeout.unwrap_or(TIMEOUT);
        let patience = options.between_bytes_timeout.unwrap_or(TIMEOUT);
        // What is dropped with the response, and ends the exchange then.
        let (answer, rest): (Response<WasiBody>, Work) = match peer {
            Peer::Neighbour(neighbour) => {
                let (answer, guard) = neighbour.ask(request, first_byte).await?;
                let rest = async move {
                    let _guard = guard;
                    std::future::pending::<Result<(), Error>>().await
                };
                (
                    answer.map(|body| Timed::new(body, patience).boxed_unsync()),
                    Box::new(rest),
                )
            }
            Peer::Far(mut sender, connection) => {
                let answer = timeout(first_byte, sender.send_request(request)).await;
                let answer = answer
                    .map_err(|_| Error::ConnectionReadTimeout)?
                    .map_err(broken)?;
                let rest = async move {
                    connection.await;
                    Ok(())
                };
                let body = |body: Incoming| Timed::new(body.map_err(broken), patience).boxed_unsync();
                (answer.map(body), Box::new(rest))
            }
        };
        Ok((answer, rest))
    }

    async fn connect(&self, uri: &Uri, method: &Method) -> Result<Peer, Error> {
        let host = uri.host().ok_or(Error::HttpRequestUriInvalid)?;
        let is_tls = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if is_tls { 443 } else { 80 });
        if !self
            .sockets
            .permits(if is_tls { "https" } else { "http" }, host, port)
        {
            tracing::debug!(host, port, "a wasm guest may not connect there");
            return Err(Error::HttpRequestDenied);
        }
        // Neighbours speak no TLS, and are no proxies.
        let may_hand_over = !is_tls && method != Method::CONNECT;
        let stream = match self.dial(host, port, may_hand_over).await? {
            Reached::Neighbour(neighbour) => return Ok(Peer::Neighbour(neighbour)),
            Reached::Stream(stream) => stream,
        };
        let stream: Box<dyn Stream> = if is_tls {
            self.secure(host, stream).await?
        } else {
            Box::new(stream)
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = spawn(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection of a wasm guest ended");
            }
        });
        Ok(Peer::Far(sender, connection))
    }

    /// Tries the host's addresses one after another.
    async fn dial(&self, host: &str, port: u16, may_hand_over: bool) -> Result<Reached, Error> {
        let mut addresses = self
            .sockets
            .resolve(host)
            .await
            .map_err(unresolved)?
            .into_iter()
            .peekable();
        let mut last = Error::DestinationNotFound;
        while let Some(address) = addresses.next() {
            let patience = if addresses.peek().is_some() {
                TRY_TIMEOUT
            } else {
                TIMEOUT
            };
            let address = SocketAddr::new(address, port);
            match timeout(patience, self.dial_one(address, may_hand_over)).await {
                Ok(Ok(reached)) => return Ok(reached),
                Ok(Err(error)) => last = error,
                Err(_) => last = Error::ConnectionTimeout,
            }
        }
        Err(last)
    }

    async fn dial_one(&self, address: SocketAddr, may_hand_over: bool) -> Result<Reached, Error> {
        let route = self.sockets.route_permitted(address, Protocol::Tcp);
        let route = route.map_err(refused)?;
        if may_hand_over && let Some(entrance) = self.sockets.neighbour(route.peer) {
            let source = route.source.unwrap_or(route.peer.ip());
            let client = SocketAddr::new(source, 0);
            return Ok(Reached::Neighbour(Neighbour { entrance, client }));
        }
        let socket = self
            .sockets
            .make(|| socket(&route))
            .map_err(unconnected)?
            .map_err(unconnected)?;
        let stream = socket.connect(route.peer).await.map_err(unconnected)?;
        let _ = stream.set_nodelay(true);
        Ok(Reached::Stream(stream))
    }

    async fn secure(&self, host: &str, stream: TcpStream) -> Result<Box<dyn Stream>, Error> {
        let tls = self.tls.clone();
        let connector = tokio::task::spawn_blocking(move || tls.connector()).await;
        let connector = connector
            .map_err(|_| Error::ConfigurationError)?
            .map_err(|why| Error::InternalError(Some(why)))?;
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let name = bare.try_into().map_err(|_| Error::HttpRequestUriInvalid)?;
        let stream = connector.connect(name, stream).await.map_err(|error| {
            tracing::debug!(host, %error, "TLS with a wasm guest's peer failed");
            let is_certificate = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref())
                .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)));
            if is_certificate {
                Error::TlsCertificateError
            } else {
                Error::TlsProtocolError
            }
        })?;
        Ok(Box::new(stream))
    }
}

fn socket(route: &Route) -> io::Result<TcpSocket> {
    let socket = if route.peer.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    if let Some(source) = route.source {
        // Leaves the choice of the port to connect, which can use one for many
        // peers; bind would let a pod have 28,000 connections in all.
        let _ = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
        socket.bind(SocketAddr::new(source, 0))?;
    }
    Ok(socket)
}

fn unresolved(error: ResolveError) -> Error {
    Error::DnsError {
        rcode: Some(error.to_string()),
        info_code: None,
    }
}

fn refused(refused: Refused) -> Error {
    match refused {
        Refused::Denied => Error::DestinationIpProhibited,
        Refused::NotBindable | Refused::Unreachable => Error::DestinationIpUnroutable,
    }
}

fn unconnected(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => Error::ConnectionTerminated,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Error::DestinationIpUnroutable,
        io::ErrorKind::PermissionDenied => Error::DestinationIpProhibited,
        _ => Error::InternalError(Some(error.to_string())),
    }
}

fn broken(error: hyper::Error) -> Error {
    if error.is_incomplete_message() || error.is_closed() || error.is_canceled() {
        return Error::ConnectionTerminated;
    }
    if error.is_timeout() {
        Error::HttpResponseTimeout
    } else {
        Error::HttpProtocolError
    }
}
