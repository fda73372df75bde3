//! What a server has before its store is open: its address, its keys, and the way to other servers.

use std::net::SocketAddr;
use std::sync::Arc;

use base::Tasks;
use jiff::Timestamp;
use store::{Dialer, Store};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::credentials::{Credentials, for_clients};
use super::error::StartError;
use super::witness_tls;
use crate::config::ServerConfig;
use crate::http::{Answers, GivenUp, Guests, Listening, bind};
use crate::pace::Pace;
use crate::peers::{PeerDialer, PeerDoor, PeerTls};
use crate::pki::witness::WitnessKeys;
use crate::pki::{Pki, PkiError, Serving};

/// A server that listens and does not answer yet. The store needs to know its
/// address and its way to others to open, see [`crate::ApiServer::start_prepared`].
pub struct Prepared {
    pub(super) config: ServerConfig,
    pub(super) listeners: Vec<TcpListener>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) keys: Keys,
    pub(super) peers: Arc<PeerDialer>,
}

/// The keys of a server.
#[derive(Clone)]
pub(super) enum Keys {
    /// Those of the cluster, and its serving certificate.
    Full(Arc<Pki>, Arc<Serving>),
    /// Those that a witness has.
    Witness(Arc<WitnessKeys>),
}

impl Keys {
    async fn open(config: &ServerConfig, port: u16) -> Result<Self, StartError> {
        let config = config.clone();
        // Files are written and synced, which may take a slow disk a while.
        let opened = tokio::task::spawn_blocking(move || {
            let now = config.clock.now();
            if config.witness {
                let keys = WitnessKeys::open(&config.data_dir)?;
                return Ok(Self::Witness(Arc::new(keys)));
            }
            let pki = Pki::open(&config, port, now)?;
            let serving = pki.serving(&config, now)?;
            Ok::<_, PkiError>(Self::Full(Arc::new(pki), Arc::new(serving)))
        });
        Ok(opened.await.map_err(std::io::Error::other)??)
    }

    /// The identity of this server towards the others of its cluster.
    fn peer_tls(&self, store: &Store, now: Timestamp) -> Result<PeerTls, PkiError> {
        let (cluster, member) = (store.cluster(), store.member());
        match self {
            Self::Full(pki, _) => {
                let keys = pki.now();
                let ca = &keys.peer_ca;
                PeerTls::new(ca, ca.roots(), cluster, member, now)
            }
            Self::Witness(keys) => {
                let keys = keys.now();
                PeerTls::new(&keys.peer_ca, &keys.peer_roots, cluster, member, now)
            }
        }
    }

    fn tls(&self) -> Result<rustls::ServerConfig, PkiError> {
        match self {
            Self::Full(pki, serving) => for_clients(pki, serving),
            Self::Witness(keys) => witness_tls::for_clients(&keys.now()),
        }
    }
}

/// The keys of a server that listens, and what was made with them.
pub(super) enum Kept {
    /// Kept good from now on.
    Full(Box<Credentials>),
    Witness(witness_tls::Kept),
}

/// What is left of it once it listens.
pub(super) struct Opened {
    pub config: ServerConfig,
    pub addresses: Vec<SocketAddr>,
    pub credentials: Kept,
    pub given_up: GivenUp,
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
        let keys = Keys::open(&config, port).await?;
        Ok(Self {
            config,
            listeners,
            addresses,
            keys,
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
        let Self { config, keys, .. } = self;
        let now = config.clock.now();
        let identity = Arc::new(keys.peer_tls(store, now)?);
        self.peers.introduce(identity.clone());
        let tls = watch::Sender::new(Arc::new(keys.tls()?));
        let given_up = GivenUp::new(&config.metrics);
        let listening = Listening {
            door,
            tls: tls.subscribe(),
            peers: PeerDoor::new(identity.clone(), store.clone()),
            guests: Guests::new(config.connections_max, &config.metrics),
            failed_handshakes: Listening::count_failures(&config.metrics),
            given_up: given_up.clone(),
            pace: Pace::new(&config.metrics),
            grace: config.shutdown_grace,
        };
        listening.start(self.listeners, tasks);
        let credentials = match keys {
            Keys::Full(pki, serving) => {
                let credentials = Credentials {
                    config: config.clone(),
                    port,
                    pki,
                    serving,
                    peers: identity,
                    tls,
                    writing: Arc::default(),
                };
                credentials.clone().keep(store.clone(), tasks);
                Kept::Full(Box::new(credentials))
            }
            Keys::Witness(keys) => Kept::Witness(witness_tls::Kept {
                clock: config.clock.clone(),
                keys,
                peers: identity,
                tls,
                writing: Arc::default(),
            }),
        };
        Ok(Opened {
            config,
            addresses: self.addresses,
            credentials,
            given_up,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.addresses.first().map_or(0, SocketAddr::port)
    }
}
