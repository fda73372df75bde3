//! Connections to the other servers.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use store::{Dialer, Dialling, Peer, Stream};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{PeerTls, tune};

/// Longest that a connection may take: short, since a lost packet is repeated ever later.
const PATIENCE: Duration = Duration::from_secs(3);

/// The store's way to other members. The store needs it to open, and says only
/// then who this server is: until [`PeerDialer::introduce`] nobody is dialled.
#[derive(Default)]
pub struct PeerDialer {
    tls: OnceLock<Arc<PeerTls>>,
}

impl PeerDialer {
    /// From now on dials in this name; the first one stays.
    pub fn introduce(&self, tls: Arc<PeerTls>) {
        let _ = self.tls.set(tls);
    }
}

impl Dialer for PeerDialer {
    fn dial(&self, peer: &Peer) -> Dialling {
        let (tls, peer) = (self.tls.get().cloned(), peer.clone());
        Box::pin(async move {
            let tls = tls.ok_or(io::ErrorKind::NotConnected)?;
            let dialled = tokio::time::timeout(PATIENCE, connect(&tls, &peer)).await;
            dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
    }
}

async fn connect(tls: &PeerTls, peer: &Peer) -> io::Result<Box<dyn Stream>> {
    let stream = TcpStream::connect(&peer.address).await?;
    tune(&stream)?;
    let name = tls.name_of(peer.id).map_err(io::Error::other)?;
    let stream = TlsConnector::from(tls.client()).connect(name, stream).await?;
    Ok(Box::new(stream))
}
