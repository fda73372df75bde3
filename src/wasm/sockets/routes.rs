//! Where what a guest sends goes, and what it finds under names.

use super::translate::{Refused, Sockets, unspecified};
use crate::neighbours::{Door, Entrance};
use crate::network::{Protocol, ResolveError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Weak};

/// How to reach a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) peer: SocketAddr,
    /// What an unbound socket is to be bound to first.
    pub(crate) source: Option<IpAddr>,
}

impl Sockets {
    /// Whether a request may go to a URL of these parts.
    pub(crate) fn permits(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.grants.url(scheme, host, port)
    }

    /// How to reach what a guest's own socket wants to reach.
    pub(crate) fn route(&self, wanted: SocketAddr, protocol: Protocol) -> Result<Route, Refused> {
        if !self.grants.address(wanted) {
            return Err(Refused::Denied);
        }
        self.route_permitted(wanted, protocol)
    }

    /// How to reach an address of a host that [`Sockets::permits`].
    pub(crate) fn route_permitted(&self, wanted: SocketAddr, protocol: Protocol) -> Result<Route, Refused> {
        let is_shared = self.is_shared();
        let canonical = wanted.ip().to_canonical();
        if is_shared && canonical.is_loopback() {
            return self.route_within(SocketAddr::new(canonical, wanted.port()), protocol);
        }
        let peer = self.network.pick(wanted, protocol);
        // Somebody else's loopback in the shared namespace, or a bad endpoint.
        if is_shared && peer.ip().to_canonical().is_loopback() || !self.network.may_connect(peer) {
            return Err(Refused::Denied);
        }
        let source = match is_shared {
            false => None,
            true => {
                let own = self.network.pod_ip_of(peer.ip().to_canonical().is_ipv6());
                Some(own.ok_or(Refused::Unreachable)?)
            }
        };
        Ok(Route { peer, source })
    }

    /// To another container of the same pod.
    fn route_within(&self, wanted: SocketAddr, protocol: Protocol) -> Result<Route, Refused> {
        let ipv6 = wanted.is_ipv6();
        let own = self.network.pod_ip_of(ipv6).ok_or(Refused::Unreachable)?;
        let loopback = self.loopback(ipv6);
        let is_wildcard = self.ports.is_claimed(loopback, protocol, wanted.port());
        let ip = if is_wildcard { own } else { loopback };
        Ok(Route {
            peer: SocketAddr::new(ip, wanted.port()),
            source: Some(ip),
        })
    }

    /// Makes a server known to the programs of its pod.
    pub(crate) fn introduce<D: Door + 'static>(
        &self,
        bound: impl Iterator<Item = SocketAddr>,
        server: &Arc<D>,
    ) {
        let Some(neighbours) = self.network.neighbours() else {
            return;
        };
        for address in bound {
            let door: Weak<D> = Arc::downgrade(server);
            neighbours.introduce(address, door);
        }
    }

    /// The way into a server of the same pod that listens at a peer.
    pub(crate) fn neighbour(&self, peer: SocketAddr) -> Option<Entrance> {
        let neighbours = self.network.neighbours()?;
        let ip = peer.ip().to_canonical();
        let at = |ip| neighbours.enter(SocketAddr::new(ip, peer.port()));
        let all = || (ip.is_loopback() || self.is_own(ip)).then(|| unspecified(ip.is_ipv6()));
        at(ip).or_else(|| at(all()?))
    }

    /// What a guest finds under a name that it looks up itself. None: it may not.
    pub(crate) fn look_up(
        &self,
        name: String,
    ) -> Option<impl Future<Output = Result<Vec<IpAddr>, ResolveError>> + use<>> {
        let sockets = self.clone();
        let may = self.grants.name(&name);
        let looking = async move {
            let found = sockets.resolve(&name).await?;
            sockets.grants.note(&name, &found);
            Ok(found)
        };
        may.then_some(looking)
    }

    /// The addresses of a name (or of an address in writing) that this
    /// instance's sockets can use.
    pub(crate) async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let bare = name
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(name);
        if let Ok(address) = bare.parse() {
            return Ok(vec![address]);
        }
        if bare.eq_ignore_ascii_case("localhost") {
            return Ok(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
        }
        let (network, name) = (self.network.clone(), bare.to_string());
        let lookup = self.home.spawn(async move { network.resolve(&name).await });
        let ended = |_| ResolveError::Temporary("the resolver has ended".into());
        let mut found = lookup.await.map_err(ended)??;
        found.retain(|address| self.has_family(address.is_ipv6()));
        if found.is_empty() {
            Err(ResolveError::NotFound)
        } else {
            Ok(found)
        }
    }
}
