//! Listening: TLS, HTTP/1.1 and HTTP/2, several addresses, an orderly end.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base::telemetry::Metrics;
use base::{OnError, Tasks};
use futures_util::future::BoxFuture;
use http::{Request, Response, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus_client::metrics::counter::Counter;
use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::LazyConfigAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::{Caller, Door};
use super::given_up::{GivenUp, Reason};
use super::guests::Guests;
use super::handler;
use super::idle::Use;
use super::shares::Share;
use super::together::Together;
use super::until::{End, Until};
use crate::authn::CertificateUser;
use crate::body::{Body, BoxError};
use crate::pace::{Client, Pace};
use crate::peers::PeerDoor;
use crate::pki::Signers;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);
const HEADER_BYTES_MAX: u32 = 256 * 1024;
/// Streams on one HTTP/2 connection; each watch is one, and an informer-based client has dozens.
const STREAMS_MAX: u32 = 1000;
/// What may wait on a stream for the connection to take it.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// A client that vanished without a word is noticed after these two together.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(15);
/// How long what is under way may take on a connection whose client is trusted no more. What lasts ends at once, but
/// for what knows no other end than that of its connection, such as a log that is followed.
const LAST_WORDS: Duration = Duration::from_secs(10);
/// Pause after `accept` failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens on all addresses, once on each. Port 0 is chosen once and used for every address.
pub(crate) async fn bind(addresses: &[SocketAddr]) -> std::io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut chosen = None;
    for address in addresses {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(chosen.unwrap_or(0));
        }
        // The node's own may be the loopback that is listened on in any case.
        let same = |known: &TcpListener| known.local_addr().is_ok_and(|known| known == address);
        if listeners.iter().any(same) {
            continue;
        }
        let named = |error: std::io::Error| {
            std::io::Error::new(error.kind(), format!("listen on {address}: {error}"))
        };
        let listener = TcpListener::bind(address).await.map_err(named)?;
        chosen = chosen.or(Some(listener.local_addr()?.port()));
        listeners.push(listener);
    }
    Ok(listeners)
}

/// Whoever answers what comes in.
pub(crate) trait Answers: Send + Sync + 'static {
    /// What the certificates of a connection prove; asked once for each connection.
    fn certificate(&self, chain: Option<&[CertificateDer<'static>]>) -> CertificateUser;
    /// The authorities whose certificates prove anything.
    fn signers(&self) -> Signers;
    /// Answers a request. Never fails: failures are answers too.
    fn answer(self: Arc<Self>, caller: Caller, request: Request<Body>) -> BoxFuture<'static, Response<Body>>;
}

impl Answers for Door {
    fn certificate(&self, chain: Option<&[CertificateDer<'static>]>) -> CertificateUser {
        self.authn.connection(chain)
    }

    fn signers(&self) -> Signers {
        self.authn.signers()
    }

    fn answer(self: Arc<Self>, caller: Caller, request: Request<Body>) -> BoxFuture<'static, Response<Body>> {
        handler::handle(self, caller, request)
    }
}

/// A server on its listeners.
pub(crate) struct Listening {
    /// `None` until there is something to answer from; requests wait for it.
    pub door: watch::Receiver<Option<Arc<dyn Answers>>>,
    /// For clients, as it is at the moment.
    pub tls: watch::Receiver<Arc<ServerConfig>>,
    /// For other servers, which do not wait.
    pub peers: PeerDoor,
    /// How many connections there may be.
    pub guests: Guests,
    /// Counts handshakes that came to nothing.
    pub failed_handshakes: Counter,
    /// What is counted of connections that are given up.
    pub given_up: GivenUp,
    /// How much of the processor each client has.
    pub pace: Arc<Pace>,
    /// How long open requests may take to end.
    pub grace: Duration,
}

impl Listening {
    /// Serves until `tasks` are cancelled, then lets open requests end.
    pub(crate) fn start(self, listeners: Vec<TcpListener>, tasks: &Tasks) {
        let shared = Arc::new(self);
        for listener in listeners {
            let name = format!("listen {:?}", listener.local_addr().ok());
            let server = shared.clone();
            let stop = tasks.cancelled();
            tasks.spawn_graceful(name, OnError::Shutdown, server.accept(listener, stop));
        }
    }

    async fn accept(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let connections = TaskTracker::new();
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => break,
            };
            match accepted {
                Ok((stream, peer)) => {
                    // Without a word: even an answer would cost a handshake.
                    let Some(guest) = self.guests.admit(peer.ip()) else {
                        continue;
                    };
                    let client = self.pace.stranger(peer.ip());
                    let served = self
                        .clone()
                        .connection(stream, peer, client.clone(), stop.clone());
                    connections.spawn(client.paced(while_guest(guest, served)));
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting a connection failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(self.grace, connections.wait())
            .await
            .is_err()
        {
            tracing::info!(
                open = connections.len(),
                "closing connections that are still busy"
            );
        }
    }

    /// The door, once it is open; `None` when the server stops before.
    async fn opened(&self, stop: &CancellationToken) -> Option<Arc<dyn Answers>> {
        let mut door = self.door.clone();
        tokio::select! {
            opened = door.wait_for(Option::is_some) => opened.ok()?.clone(),
            () = stop.cancelled() => None,
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        client: Arc<Client>,
        stop: CancellationToken,
    ) {
        // Small answers must not wait for the other side's acknowledgement.
        let _ = stream.set_nodelay(true);
        // Who takes nothing of what is sent for this long has gone, or means harm.
        let _ = sys::tcp::give_up_after(&stream, UNREAD_TIMEOUT);
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), stream);
        let Some(hello) = self.timely(peer, hello).await else {
            return;
        };
        if PeerDoor::is_wanted(&hello.client_hello()) {
            // A task of its own: other servers wait for nobody's turn.
            let serve = async move { self.peers.serve(hello, peer, &stop).await };
            return tokio::spawn(serve).await.unwrap_or_default();
        }
        let tls = self.tls.borrow().clone();
        let Some(stream) = self.timely(peer, hello.into_stream(tls)).await else {
            return;
        };
        let Some(door) = self.opened(&stop).await else {
            return;
        };
        let chain = stream.get_ref().1.peer_certificates();
        let certificate = Arc::new(door.certificate(chain));
        let until = Until::new(stop, &certificate, door.signers());
        if let CertificateUser::Known { user, .. } = &*certificate {
            client.is(&user.name);
        }
        let in_use = Use::new();
        let builder = builder(client.clone(), in_use.clone());
        let caller = Caller::Remote {
            peer,
            certificate,
            client: client.clone(),
            until: until.clone(),
        };
        let asked = in_use.clone();
        let service = service_fn(move |request: Request<Incoming>| {
            if request.version() < Version::HTTP_2 {
                asked.leave_to_others();
                client.asks();
            }
            let (door, caller) = (door.clone(), caller.clone());
            let request = request.map(|body| body.map_err(|error| -> BoxError { error.into() }).boxed());
            async move { Ok::<_, Infallible>(door.answer(caller, request).await) }
        });
        let connection = builder.serve_connection_with_upgrades(TokioIo::new(Together::new(stream)), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            over = over(&until, &in_use) => {
                connection.as_mut().graceful_shutdown();
                match over {
                    Over::End(End::Stop) => connection.await,
                    Over::End(End::Distrusted) => {
                        tracing::debug!(%peer, "who signed its certificate is trusted no more");
                        let last = tokio::time::timeout(LAST_WORDS, connection).await;
                        last.unwrap_or(Ok(()))
                    }
                    Over::Unused(reason) => {
                        self.given_up.count(reason);
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            let reason = Reason::of_connection(&*error);
            reason.iter().for_each(|reason| self.given_up.count(*reason));
            tracing::debug!(%peer, ?reason, error, "connection ended with an error");
        }
    }

    /// What comes of one half of a handshake, in time.
    async fn timely<T>(&self, peer: SocketAddr, half: impl Future<Output = std::io::Result<T>>) -> Option<T> {
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, half).await {
            Ok(Ok(done)) => return Some(done),
            Ok(Err(error)) => tracing::debug!(%peer, %error, "TLS handshake failed"),
            Err(_) => tracing::debug!(%peer, "TLS handshake took too long"),
        }
        self.failed_handshakes.inc();
        self.given_up.count(Reason::Handshake);
        None
    }

    /// The count of handshakes that came to nothing, registered.
    pub(crate) fn count_failures(metrics: &Metrics) -> Counter {
        metrics.add(
            "apiserver_tls_handshake_errors",
            "Number of requests dropped with 'TLS handshake error from' error",
            Counter::default(),
        )
    }
}

/// Why a connection is to end.
enum Over {
    /// What lasts on it ends, too.
    End(End),
    /// Nobody uses it.
    Unused(Reason),
}

/// Returns when a connection is to end.
async fn over(until: &Until, in_use: &Use) -> Over {
    tokio::select! {
        end = until.over() => Over::End(end),
        reason = in_use.end() => Over::Unused(reason),
    }
}

async fn while_guest(guest: Share<IpAddr>, served: impl Future<Output = ()>) {
    served.await;
    drop(guest);
}

/// Runs the requests of an HTTP/2 connection at its client's pace.
#[derive(Clone)]
struct AtItsPace(Arc<Client>, Use);

impl<F> hyper::rt::Executor<F> for AtItsPace
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, request: F) {
        let busy = self.1.begin();
        let request = self.0.clone().paced_request(request);
        tokio::spawn(async move {
            request.await;
            drop(busy);
        });
    }
}

fn builder(client: Arc<Client>, in_use: Use) -> auto::Builder<AtItsPace> {
    let mut builder = auto::Builder::new(AtItsPace(client, in_use));
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX as usize);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .max_concurrent_streams(STREAMS_MAX)
        .max_send_buf_size(SEND_BYTES_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_that_is_named_twice_is_listened_on_once() {
        let any = |last| SocketAddr::from(([127, 0, 0, last], 0));
        let listeners = bind(&[any(1), any(2), any(1)]).await.unwrap();
        let heard: Vec<SocketAddr> = listeners.iter().map(|one| one.local_addr().unwrap()).collect();
        let port = heard[0].port();
        assert_eq!(heard, [any(1), any(2)].map(|one| SocketAddr::new(one.ip(), port)));
    }
}
