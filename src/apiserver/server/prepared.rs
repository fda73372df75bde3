//! What a server has before its store is open: its address, its keys, and the way to other servers.

use std::net::SocketAddr;
use std::sync::Arc;

use store::Dialer;
use tokio::net::TcpListener;

use super::StartError;
use crate::config::ServerConfig;
use crate::http::bind;
use crate::peers::PeerDialer;
use crate::pki::{Pki, PkiError, Serving};

/// A server that listens and does not answer yet. The store needs to know its
/// address and its way to others to open, see [`crate::ApiServer::start_prepared`].
pub struct Prepared {
    pub(super) config: ServerConfig,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) pki: Arc<Pki>,
    pub(super) serving: Arc<Serving>,
    pub(super) peers: Arc<PeerDialer>,
}

impl Prepared {
    /// Listens, and reads keys and certificates or makes them.
    ///
    /// # Errors
    /// When an address is taken, or a key cannot be had.
    pub async fn new(config: ServerConfig) -> Result<Self, StartError> {
        let listeners = bind(&config.listen).await?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let port = addresses.first().map_or(0, SocketAddr::port);
        let (pki, serving) = keys(&config, port).await?;
        Ok(Self {
            config,
            listeners,
            addresses,
            pki,
            serving,
            peers: Arc::default(),
        })
    }

    /// The way to other servers.
    pub fn dialer(&self) -> Arc<dyn Dialer> {
        self.peers.clone()
    }

    /// Where other machines reach this server.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.config.advertise, self.port())
    }

    pub(super) fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }
}

async fn keys(config: &ServerConfig, port: u16) -> Result<(Arc<Pki>, Arc<Serving>), StartError> {
    let config = config.clone();
    // Files are written and synced, which may take a slow disk a while.
    let opened = tokio::task::spawn_blocking(move || {
        let now = config.clock.now();
        let pki = Pki::open(&config, port, now)?;
        let serving = pki.serving(&config, now)?;
        Ok::<_, PkiError>((Arc::new(pki), Arc::new(serving)))
    });
    Ok(opened.await.map_err(std::io::Error::other)??)
}
