//! What a server has before its store is open: its address, its keys, and the way to other servers.

use std::net::SocketAddr;
use std::sync::Arc;

use base::Tasks;
use store::{Dialer, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::StartError;
use super::credentials::Credentials;
use crate::config::ServerConfig;
use crate::http::{Answers, Guests, Listening, bind};
use crate::peers::{PeerDialer, PeerDoor, PeerTls};
use crate::pki::{Pki, PkiError, Serving};
use crate::tls;

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

/// What is left of it once it listens.
pub(super) struct Opened {
    pub config: ServerConfig,
    pub addresses: Vec<SocketAddr>,
    pub pki: Arc<Pki>,
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

    /// Serves other servers from now on, and clients as soon as there is a door.
    pub(super) fn listen(
        self,
        store: &Store,
        door: watch::Receiver<Option<Arc<dyn Answers>>>,
        tasks: &Tasks,
    ) -> Result<Opened, StartError> {
        let port = self.port();
        let Self {
            config, pki, serving, ..
        } = self;
        let identity = PeerTls::new(&pki.peer_ca, store.cluster(), store.member(), config.clock.now())?;
        let identity = Arc::new(identity);
        self.peers.introduce(identity.clone());
        let listening = Listening {
            door,
            tls: Arc::new(tls::server_config(&pki, serving.clone())?),
            peers: PeerDoor::new(identity, store.clone()),
            guests: Guests::new(config.connections_max, &config.metrics),
            grace: config.shutdown_grace,
        };
        listening.start(self.listeners, tasks);
        let credentials = Credentials {
            config: config.clone(),
            port,
            pki: pki.clone(),
            serving,
        };
        credentials.keep(store.clone(), tasks);
        Ok(Opened {
            config,
            addresses: self.addresses,
            pki,
        })
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
