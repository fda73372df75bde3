//! Services without the kernel's help: a socket for every frontend, and this
//! process between client and endpoint. Slower than translation, and endpoints
//! see the node's address instead of the client's; for kernels without nftables.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sys::nft::Family;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::{AbortHandle, JoinSet};

use super::balancer::Balancer;
use super::table::{Delta, Table};
use crate::plan::{Clients, Frontend, Place, Protocol};

/// How long a connection to an endpoint may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// A conversation by UDP is over when nobody has said anything for so long.
const UDP_IDLE: Duration = Duration::from_secs(60);
/// Conversations by UDP at once, per frontend.
const UDP_CLIENTS_MAX: usize = 4096;
/// What fits into one datagram.
const DATAGRAM_MAX: usize = 65_535;
/// Bytes in flight per direction of a connection: most are short, and pay for it each.
const BUFFER: usize = 16 << 10;

/// Where clients arrive.
type Door = (SocketAddr, Protocol);

/// The sockets of all frontends.
pub(super) struct Userspace {
    balancer: Arc<Balancer>,
    node_addresses: Vec<IpAddr>,
    open: HashMap<Door, AbortHandle>,
    /// Ends them all when it is dropped.
    tasks: JoinSet<()>,
}

impl Userspace {
    pub(super) fn new(balancer: Arc<Balancer>, node_addresses: Vec<IpAddr>) -> Userspace {
        Userspace {
            balancer,
            node_addresses,
            open: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Opens and closes what has changed; `table` is the state after it. A
    /// frontend that nobody stands behind has no socket: the kernel refuses.
    pub(super) async fn change(&mut self, deltas: &[Delta], table: &Table) {
        // Those that have ended need not be remembered.
        while self.tasks.try_join_next().is_some() {}
        for delta in deltas {
            let frontend = delta.frontend.with(Clients::All);
            let wanted = table.backends(frontend).next().is_some();
            for door in self.doors(frontend) {
                match (wanted, self.open.contains_key(&door)) {
                    (true, false) => self.open(door).await,
                    (false, true) => self.close(door),
                    _ => {}
                }
            }
        }
    }

    fn doors(&self, frontend: Frontend) -> Vec<Door> {
        let at = |ip| (SocketAddr::new(ip, frontend.port), frontend.protocol);
        match frontend.place {
            Place::Address(ip) => vec![at(ip)],
            Place::Node(family) => {
                let own = self.node_addresses.iter().copied();
                own.filter(|ip| Family::of(*ip) == family).map(at).collect()
            }
        }
    }

    async fn open(&mut self, door: Door) {
        let (at, protocol) = door;
        let balancer = self.balancer.clone();
        let task = match protocol {
            Protocol::Tcp => TcpListener::bind(at)
                .await
                .map(|listener| self.tasks.spawn(connections(listener, at, balancer))),
            Protocol::Udp => UdpSocket::bind(at)
                .await
                .map(|socket| self.tasks.spawn(conversations(Arc::new(socket), at, balancer))),
            Protocol::Sctp => Err(io::Error::other("only the kernel balances SCTP")),
        };
        match task {
            Ok(task) => {
                self.open.insert(door, task);
            }
            Err(error) => tracing::warn!(%at, ?protocol, %error, "this Service cannot be served here"),
        }
    }

    fn close(&mut self, door: Door) {
        if let Some(task) = self.open.remove(&door) {
            task.abort();
        }
    }
}

/// Accepts until aborted. Connections outlive their listener, as they outlive
/// a rule in the kernel.
async fn connections(listener: TcpListener, at: SocketAddr, balancer: Arc<Balancer>) {
    loop {
        match listener.accept().await {
            Ok((client, from)) => {
                let endpoint = balancer.pick(from.ip(), at, Protocol::Tcp);
                tokio::spawn(async move {
                    if let Err(error) = connection(client, endpoint, at).await {
                        tracing::debug!(%at, %endpoint, %error, "a connection ended");
                    }
                });
            }
            // Out of files, most likely: others will close theirs.
            Err(error) => {
                tracing::warn!(%at, %error, "cannot accept");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(mut client: TcpStream, endpoint: SocketAddr, at: SocketAddr) -> io::Result<()> {
    let server = match endpoint == at {
        // Nobody answers, or this client is not let in.
        true => None,
        false => tokio::time::timeout(CONNECT_MAX, TcpStream::connect(endpoint))
            .await
            .ok(),
    };
    let Some(Ok(mut server)) = server else {
        // A reset, as a refusal that comes a moment late.
        return client.set_zero_linger();
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    tokio::io::copy_bidirectional_with_sizes(&mut client, &mut server, BUFFER, BUFFER).await?;
    Ok(())
}

/// Hands datagrams on until aborted; each client has a socket of its own
/// towards its endpoint, so that answers find back.
async fn conversations(socket: Arc<UdpSocket>, at: SocketAddr, balancer: Arc<Balancer>) {
    let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, AbortHandle)> = HashMap::new();
    let mut answers = JoinSet::new();
    let mut datagram = vec![0; DATAGRAM_MAX];
    loop {
        let (length, from) = match socket.recv_from(&mut datagram).await {
            Ok(got) => got,
            // What an earlier answer met on its way back.
            Err(_) => continue,
        };
        while answers.try_join_next().is_some() {}
        clients.retain(|_, (_, answering)| !answering.is_finished());
        if !clients.contains_key(&from) && clients.len() < UDP_CLIENTS_MAX {
            let endpoint = balancer.pick(from.ip(), at, Protocol::Udp);
            if let Ok(server) = towards(endpoint, at).await {
                let task = answers.spawn(answer(server.clone(), socket.clone(), from));
                clients.insert(from, (server, task));
            }
        }
        if let Some((server, _)) = clients.get(&from) {
            // Datagrams may be lost; the client asks again.
            let _ = server.send(&datagram[..length]).await;
        }
    }
}

async fn towards(endpoint: SocketAddr, at: SocketAddr) -> io::Result<Arc<UdpSocket>> {
    if endpoint == at {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let any: IpAddr = match endpoint {
        SocketAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(endpoint).await?;
    Ok(Arc::new(socket))
}

/// Brings a server's answers back until it has been silent for a while.
async fn answer(server: Arc<UdpSocket>, clients: Arc<UdpSocket>, client: SocketAddr) {
    let mut datagram = vec![0; DATAGRAM_MAX];
    while let Ok(Ok(length)) = tokio::time::timeout(UDP_IDLE, server.recv(&mut datagram)).await {
        if clients.send_to(&datagram[..length], client).await.is_err() {
            return;
        }
    }
}
