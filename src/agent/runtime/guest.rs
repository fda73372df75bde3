//! A pod's network as its Wasm guests see it.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ::wasm::{Interfaces, Neighbours, Network, Protocol, ResolveError};
use api::cidr::Addresses;
use async_trait::async_trait;

use super::Sandbox;

/// What guests need of the node's network: names and Services.
#[async_trait]
pub trait NodeNetwork: Send + Sync + 'static {
    /// One endpoint of the Service at `destination` for the pod at `client`, or
    /// that itself.
    fn pick(&self, client: IpAddr, destination: SocketAddr, protocol: Protocol) -> SocketAddr;
    /// The addresses of a name with these search domains.
    async fn resolve(&self, name: &str, search: &[String]) -> Result<Vec<IpAddr>, ResolveError>;
}

/// One pod's network for its guests.
pub struct GuestNetwork {
    ip: Addresses,
    loopback: Addresses,
    netns: Option<OwnedFd>,
    search: Vec<String>,
    aliases: Vec<(String, IpAddr)>,
    node: Arc<dyn NodeNetwork>,
    neighbours: Neighbours,
    interfaces: Interfaces,
}

impl GuestNetwork {
    /// The network of the pod in that sandbox; `netns` is where its sockets
    /// are made, if not where the guests' threads are.
    pub fn new(sandbox: &Sandbox, netns: Option<OwnedFd>, node: Arc<dyn NodeNetwork>) -> GuestNetwork {
        let (ip, loopback, search) = (sandbox.ip, sandbox.loopback, sandbox.search.clone());
        let aliases = sandbox.aliases.clone();
        GuestNetwork {
            ip,
            loopback,
            netns,
            search,
            aliases,
            node,
            neighbours: Neighbours::default(),
            interfaces: Interfaces::default(),
        }
    }

    /// As whom the pod asks there.
    fn client(&self, destination: SocketAddr) -> IpAddr {
        let same = self.ip.family(destination.is_ipv6());
        same.unwrap_or(self.ip.primary())
    }
}

#[async_trait]
impl Network for GuestNetwork {
    fn pod_ip(&self) -> IpAddr {
        self.ip.primary()
    }

    fn loopback(&self) -> IpAddr {
        self.loopback.primary()
    }

    fn pod_ip_of(&self, ipv6: bool) -> Option<IpAddr> {
        self.ip.family(ipv6)
    }

    fn loopback_of(&self, ipv6: bool) -> Option<IpAddr> {
        self.loopback.family(ipv6)
    }

    fn netns(&self) -> Option<&OwnedFd> {
        self.netns.as_ref()
    }

    fn may_bind(&self, address: SocketAddr) -> bool {
        // In a namespace of its own the kernel knows what is the pod's, 0.0.0.0 included;
        // the shared one would let a guest take any pod's address.
        let mut own = self.ip.iter().chain(self.loopback.iter());
        self.netns.is_some() || own.any(|own| own == address.ip())
    }

    fn may_connect(&self, _: SocketAddr) -> bool {
        true
    }

    fn pick(&self, destination: SocketAddr, protocol: Protocol) -> SocketAddr {
        self.node.pick(self.client(destination), destination, protocol)
    }

    fn neighbours(&self) -> Option<&Neighbours> {
        Some(&self.neighbours)
    }

    fn interfaces(&self) -> Option<&Interfaces> {
        Some(&self.interfaces)
    }

    async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // What would stand in /etc/hosts goes before what name servers say.
        let same = |known: &&(String, IpAddr)| known.0.eq_ignore_ascii_case(name);
        let known: Vec<IpAddr> = self.aliases.iter().filter(same).map(|(_, ip)| *ip).collect();
        if !known.is_empty() {
            return Ok(known);
        }
        self.node.resolve(name, &self.search).await
    }
}

/// A network of nothing: no Services, no names. For tests.
pub struct NoNetwork;

#[async_trait]
impl NodeNetwork for NoNetwork {
    fn pick(&self, _: IpAddr, destination: SocketAddr, _: Protocol) -> SocketAddr {
        destination
    }

    async fn resolve(&self, _: &str, _: &[String]) -> Result<Vec<IpAddr>, ResolveError> {
        Err(ResolveError::NotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(netns: Option<OwnedFd>) -> GuestNetwork {
        GuestNetwork {
            ip: [10, 64, 0, 9].into(),
            loopback: [127, 128, 0, 9].into(),
            netns,
            search: Vec::new(),
            aliases: Vec::new(),
            node: Arc::new(NoNetwork),
            neighbours: Neighbours::default(),
            interfaces: Interfaces::default(),
        }
    }

    #[test]
    fn a_guest_binds_its_own_addresses_in_the_shared_namespace_and_all_in_its_own() {
        let own = std::fs::File::open("/proc/self/ns/net").unwrap();
        let (shared, own) = (network(None), network(Some(own.into())));
        for (ip, in_shared) in [
            ([10, 64, 0, 9], true),
            ([127, 128, 0, 9], true),
            ([10, 64, 0, 8], false),
            ([0, 0, 0, 0], false),
        ] {
            let address = SocketAddr::from((ip, 80));
            assert_eq!(shared.may_bind(address), in_shared, "{address}");
            assert!(own.may_bind(address), "{address}");
        }
    }
}
