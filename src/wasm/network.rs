//! The guest's view of the network, as a trait that the embedder fills.

use crate::{Interfaces, Neighbours};
use async_trait::async_trait;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

/// Transport of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// Why a name gave no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is no such name, or it has no addresses.
    #[error("name not found")]
    NotFound,
    /// The answer is not to be had now; trying again may help.
    #[error("temporary failure in name resolution: {0}")]
    Temporary(String),
}

/// Addresses, rules and names for the sockets of one group of guests (a pod).
/// Its methods are called from guests' threads and must not block.
#[async_trait]
pub trait Network: Send + Sync {
    /// The pod's address of its primary family: the source of what it sends.
    fn pod_ip(&self) -> IpAddr;
    /// The 127/8 address that stands for the guest's 127.0.0.1.
    fn loopback(&self) -> IpAddr;
    /// The pod's address of a family, if it has one: what the guest's 0.0.0.0 or
    /// :: stands for.
    fn pod_ip_of(&self, ipv6: bool) -> Option<IpAddr> {
        Some(self.pod_ip()).filter(|ip| ip.is_ipv6() == ipv6)
    }
    /// What stands for the guest's loopback address of a family that the pod has.
    fn loopback_of(&self, ipv6: bool) -> Option<IpAddr> {
        Some(self.loopback()).filter(|ip| ip.is_ipv6() == ipv6)
    }
    /// The pod's own network namespace, in which its sockets are made and
    /// addresses mean what they say. None: sockets are made in the namespace of
    /// the host's threads; if [`Network::pod_ip`] is a real address, that is
    /// taken to be shared with other pods, and addresses are translated.
    fn netns(&self) -> Option<&OwnedFd> {
        None
    }
    /// Whether a guest may listen on or send from this (translated) address.
    fn may_bind(&self, address: SocketAddr) -> bool;
    /// Whether a guest may connect or send to this address, the one that
    /// [`Network::pick`] chose. The pod's own loopback is settled before.
    fn may_connect(&self, address: SocketAddr) -> bool;
    /// The peer to use for this destination: one endpoint of a service, or the
    /// destination itself.
    fn pick(&self, destination: SocketAddr, protocol: Protocol) -> SocketAddr {
        let _ = protocol;
        destination
    }
    /// Where the pod's `wasi:http` servers know one another, so that requests
    /// from one to another need no socket. None: they all take the network.
    fn neighbours(&self) -> Option<&Neighbours> {
        None
    }
    /// Where the pod's programs find what others of them export. None: they
    /// have what the host offers and no more.
    fn interfaces(&self) -> Option<&Interfaces> {
        None
    }
    /// The addresses of a name, best first. Called on the runtime from which the
    /// program was started, not on the guests' own.
    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError>;
}

/// This machine's own network, for programs that embed the host without a
/// network of their own: guests bind, connect and resolve as this process can.
#[derive(Debug, Default, Clone, Copy)]
pub struct HostNetwork;

#[async_trait]
impl Network for HostNetwork {
    fn pod_ip(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED)
    }

    fn loopback(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    }

    fn may_bind(&self, _: SocketAddr) -> bool {
        true
    }

    fn may_connect(&self, _: SocketAddr) -> bool {
        true
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let found = tokio::net::lookup_host((name, 0)).await;
        let addresses: Vec<IpAddr> = match found {
            Ok(found) => found.map(|address| address.ip()).collect(),
            Err(error) => return Err(ResolveError::Temporary(error.to_string())),
        };
        if addresses.is_empty() {
            Err(ResolveError::NotFound)
        } else {
            Ok(addresses)
        }
    }
}
