//! The node's network as pods and guests use it.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use async_trait::async_trait;
use network::{Balancer, Dns, PodNetKind, PodNetwork};
use wasm::{Protocol, ResolveError};

use crate::context::{Balancing, Link, PodNet};
use crate::runtime::guest::NodeNetwork;

#[async_trait]
impl PodNet for PodNetwork {
    async fn attach(&self, uid: &str, wasm_only: bool, wanted: Option<IpAddr>) -> Result<Link, String> {
        let kind = if wasm_only {
            PodNetKind::Shared
        } else {
            PodNetKind::Own
        };
        let link = PodNetwork::attach(self, uid, kind, wanted).await;
        let link = link.map_err(|error| error.to_string())?;
        Ok(Link {
            ip: link.ips,
            netns: link.netns,
            loopback: link.loopback,
        })
    }

    async fn prepare(&self, uid: &str, first: u32) -> Result<(), String> {
        PodNetwork::prepare(self, uid, first)
            .await
            .map_err(|error| error.to_string())
    }

    async fn detach(&self, uid: &str) -> Result<(), String> {
        PodNetwork::detach(self, uid)
            .await
            .map_err(|error| error.to_string())
    }

    async fn attached(&self) -> Result<Vec<String>, String> {
        PodNetwork::attached(self)
            .await
            .map_err(|error| error.to_string())
    }
}

#[async_trait]
impl Balancing for network::Services {
    async fn withdrawn(&self, ip: IpAddr, uid: &str) {
        network::Services::withdrawn(self, ip, uid).await;
    }

    fn set_host_ports(&self, uid: &str, ports: Vec<network::HostPort>) {
        network::Services::set_host_ports(self, uid, ports);
    }
}

/// Names and Services for guests.
pub struct GuestServices {
    /// Chooses endpoints.
    pub balancer: Arc<Balancer>,
    /// Answers names.
    pub dns: Dns,
}

#[async_trait]
impl NodeNetwork for GuestServices {
    fn pick(&self, client: IpAddr, destination: SocketAddr, protocol: Protocol) -> SocketAddr {
        let protocol = match protocol {
            Protocol::Tcp => network::Protocol::Tcp,
            Protocol::Udp => network::Protocol::Udp,
        };
        self.balancer.pick(client, destination, protocol)
    }

    async fn resolve(&self, name: &str, search: &[String]) -> Result<Vec<IpAddr>, ResolveError> {
        let found = self.dns.resolve_with(name, search, network::dns::NDOTS).await;
        found.map_err(|error| match error {
            network::ResolveError::Unavailable(_) => ResolveError::Temporary(error.to_string()),
            _ => ResolveError::NotFound,
        })
    }
}
