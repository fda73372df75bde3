//! Connections from the other servers.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::ClientHello;
use store::Store;
use tokio::net::TcpStream;
use tokio_rustls::StartHandshake;
use tokio_util::sync::CancellationToken;

use super::identity::PeerName;
use super::{PROTOCOL, PeerTls, tune};

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes in connections from other servers and hands them to the store.
pub(crate) struct PeerDoor {
    tls: Arc<PeerTls>,
    store: Store,
}

impl PeerDoor {
    /// A door to that store.
    pub fn new(tls: Arc<PeerTls>, store: Store) -> Self {
        Self { tls, store }
    }

    /// Whether a client wants to speak as a server.
    pub fn is_wanted(hello: &ClientHello<'_>) -> bool {
        hello
            .alpn()
            .is_some_and(|mut offered| offered.any(|protocol| protocol == PROTOCOL))
    }

    /// Serves a connection until it ends or `stop` is cancelled.
    pub async fn serve(
        &self,
        hello: StartHandshake<TcpStream>,
        address: SocketAddr,
        stop: &CancellationToken,
    ) {
        let (name, stream) = match self.accept(hello).await {
            Ok(accepted) => accepted,
            Err(error) => {
                return tracing::warn!(%address, %error, "refused a connection that claims to be another server's");
            }
        };
        let served = tokio::select! {
            served = self.store.serve_peer(name.member, stream) => served,
            () = stop.cancelled() => Ok(()),
            // Whoever it is proves it anew, with what is trusted now.
            () = self.tls.distrusted() => Ok(()),
        };
        let member = format_args!("{:x}", name.member);
        match served {
            Err(error) if ended(&error) => {
                tracing::debug!(%address, %member, %error, "another server has hung up")
            }
            Err(error) => {
                tracing::warn!(%address, %member, %error, "closed the connection of another server")
            }
            Ok(()) => {}
        }
    }

    async fn accept(
        &self,
        hello: StartHandshake<TcpStream>,
    ) -> io::Result<(PeerName, Box<dyn store::Stream>)> {
        let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, hello.into_stream(self.tls.server())).await;
        let stream = handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        let (socket, session) = stream.get_ref();
        tune(socket)?;
        let chain = session.peer_certificates().unwrap_or_default();
        let name = chain.first().and_then(PeerName::of);
        let name = name.ok_or_else(|| io::Error::other("its certificate names no server"))?;
        if name.cluster != self.tls.me().cluster {
            return Err(io::Error::other(format!(
                "its certificate is of cluster {:x}, this server is in {:x}",
                name.cluster,
                self.tls.me().cluster
            )));
        }
        Ok((name, Box::new(stream)))
    }
}

/// Whether a connection ended as connections do.
fn ended(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::TimedOut
    )
}
