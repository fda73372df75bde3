//! Decides what a guest's addresses mean.

use super::grants::Grants;
use super::ports::{Claim, Ports};
use crate::AllowedHosts;
use crate::network::{Network, Protocol};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use tokio::runtime::Handle;

/// Addresses, rules and names for the sockets of one instance.
#[derive(Clone)]
pub(crate) struct Sockets {
    pub(super) network: Arc<dyn Network>,
    pub(super) ports: Arc<Ports>,
    /// The embedder's own runtime: names are looked up there, for the guests'
    /// threads may be in a namespace from which no name server is reached.
    pub(super) home: Handle,
    pub(super) grants: Arc<Grants>,
}

/// Why an address is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It is not one of this pod's.
    NotBindable,
    /// A rule forbids it.
    Denied,
    /// There is no way there from this pod's address (another family).
    Unreachable,
}

/// What to bind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Binding {
    pub(crate) address: SocketAddr,
    /// The guest meant all its addresses: claim the port once it is known.
    pub(crate) wildcard: bool,
}

impl Sockets {
    pub(crate) fn new(network: Arc<dyn Network>, ports: Arc<Ports>, home: Handle) -> Sockets {
        Sockets {
            network,
            ports,
            home,
            grants: Arc::default(),
        }
    }

    /// Lets connections go to these hosts only, if there are any said.
    pub(crate) fn limited(mut self, allowed: Option<AllowedHosts>) -> Sockets {
        self.grants = Arc::new(Grants::new(allowed));
        self
    }

    /// Whether the namespace is shared with others, so that addresses need
    /// translation.
    pub(super) fn is_shared(&self) -> bool {
        self.network.netns().is_none() && !self.network.pod_ip().is_unspecified()
    }

    /// Whether sockets of this family can be of use.
    pub(crate) fn has_family(&self, is_ipv6: bool) -> bool {
        !self.is_shared() || self.network.pod_ip_of(is_ipv6).is_some()
    }

    /// What a guest's bind address means.
    pub(crate) fn bind(&self, wanted: SocketAddr) -> Result<Binding, Refused> {
        let binding = if self.is_shared() {
            self.translate_bind(wanted)?
        } else {
            Binding {
                address: wanted,
                wildcard: false,
            }
        };
        if self.network.may_bind(binding.address) {
            Ok(binding)
        } else {
            Err(Refused::Denied)
        }
    }

    fn translate_bind(&self, wanted: SocketAddr) -> Result<Binding, Refused> {
        let ip = wanted.ip().to_canonical();
        let own = self.network.pod_ip_of(ip.is_ipv6());
        let (translated, wildcard) = match ip {
            ip if ip.is_unspecified() => (own, true),
            ip if ip.is_loopback() => (self.network.loopback_of(ip.is_ipv6()), false),
            ip => (own.filter(|own| *own == ip), false),
        };
        let ip = translated.ok_or(Refused::NotBindable)?;
        Ok(Binding {
            address: SocketAddr::new(ip, wanted.port()),
            wildcard,
        })
    }

    /// Where a server listens that was told to listen at `wanted`. In a
    /// namespace of its own a server on the pod's address listens on all of
    /// them, for the sake of its neighbours at 127.0.0.1.
    pub(crate) fn listen(&self, wanted: SocketAddr) -> Result<SocketAddr, Refused> {
        let address = self.bind(wanted)?.address;
        if self.network.netns().is_none() || !self.is_own(address.ip()) {
            return Ok(address);
        }
        Ok(SocketAddr::new(unspecified(address.is_ipv6()), address.port()))
    }

    /// A listener's address for others: the pod's, rather than all.
    pub(crate) fn shown_listener(&self, bound: SocketAddr) -> SocketAddr {
        let own = self.network.pod_ip_of(bound.is_ipv6());
        match own.filter(|_| bound.ip().is_unspecified()) {
            Some(own) => SocketAddr::new(own, bound.port()),
            None => bound,
        }
    }

    /// The pod's address of the other family, for a server that was told to
    /// listen at the one given: it is to answer at both.
    pub(crate) fn sibling(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let other = self.network.pod_ip_of(!wanted.is_ipv6())?;
        let is_pod = self.is_own(wanted.ip()) && !other.is_unspecified();
        is_pod.then(|| SocketAddr::new(other, wanted.port()))
    }

    pub(super) fn is_own(&self, ip: IpAddr) -> bool {
        self.network.pod_ip_of(ip.is_ipv6()) == Some(ip)
    }

    /// Says that a socket has been bound here on all addresses of its family.
    pub(crate) fn claim(&self, protocol: Protocol, bound: SocketAddr) -> Claim {
        self.ports
            .claim(self.loopback(bound.is_ipv6()), protocol, bound.port())
    }

    /// What stands for the loopback address; that itself if nothing does.
    pub(super) fn loopback(&self, ipv6: bool) -> IpAddr {
        let itself = || match ipv6 {
            false => Ipv4Addr::LOCALHOST.into(),
            true => Ipv6Addr::LOCALHOST.into(),
        };
        self.network.loopback_of(ipv6).unwrap_or_else(itself)
    }

    /// What the guest is told of an address of its own or of a peer's.
    pub(crate) fn shown(&self, address: SocketAddr) -> SocketAddr {
        if self.is_shared() && self.network.loopback_of(address.is_ipv6()) == Some(address.ip()) {
            let ip = match address.ip() {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
                IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
            };
            return SocketAddr::new(ip, address.port());
        }
        address
    }

    /// Makes a socket where this instance's sockets belong. `make` must not
    /// await and must not start threads.
    pub(crate) fn make<T>(&self, make: impl FnOnce() -> T) -> io::Result<T> {
        match self.network.netns() {
            Some(namespace) => sys::netns::with(namespace, make),
            None => Ok(make()),
        }
    }
}

/// All addresses of a family.
pub(super) fn unspecified(ipv6: bool) -> IpAddr {
    match ipv6 {
        false => Ipv4Addr::UNSPECIFIED.into(),
        true => Ipv6Addr::UNSPECIFIED.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::routes::Route;
    use super::*;
    use crate::network::ResolveError;
    use async_trait::async_trait;

    /// A pod at 10.0.0.5 whose loopback is 127.1.2.3, with one service.
    struct Pod;

    #[async_trait]
    impl Network for Pod {
        fn pod_ip(&self) -> IpAddr {
            [10, 0, 0, 5].into()
        }
        fn loopback(&self) -> IpAddr {
            [127, 1, 2, 3].into()
        }
        fn may_bind(&self, address: SocketAddr) -> bool {
            address.port() != 9
        }
        fn may_connect(&self, address: SocketAddr) -> bool {
            address.port() != 9
        }
        fn pick(&self, destination: SocketAddr, _: Protocol) -> SocketAddr {
            if destination == at("10.43.0.1:80") {
                at("10.0.0.7:8080")
            } else {
                destination
            }
        }
        async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>, ResolveError> {
            Ok(vec!["fd00::1".parse().unwrap(), [10, 43, 0, 1].into()])
        }
    }

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn pod() -> Sockets {
        Sockets::new(Arc::new(Pod), Arc::default(), Handle::current())
    }

    #[tokio::test]
    async fn binding_in_a_shared_namespace() {
        let bound = |text| pod().bind(at(text)).map(|b| (b.address.to_string(), b.wildcard));
        assert_eq!(bound("0.0.0.0:8080"), Ok(("10.0.0.5:8080".into(), true)));
        assert_eq!(bound("127.0.0.1:8080"), Ok(("127.1.2.3:8080".into(), false)));
        assert_eq!(bound("127.9.9.9:8080"), Ok(("127.1.2.3:8080".into(), false)));
        assert_eq!(bound("10.0.0.5:80"), Ok(("10.0.0.5:80".into(), false)));
        assert_eq!(bound("10.0.0.6:80"), Err(Refused::NotBindable));
        assert_eq!(bound("[::]:80"), Err(Refused::NotBindable));
        assert_eq!(bound("0.0.0.0:9"), Err(Refused::Denied));
        assert!(pod().has_family(false) && !pod().has_family(true));
    }

    #[tokio::test]
    async fn routes_leave_from_the_pod_s_address_and_balance_services() {
        let route = |text| {
            pod()
                .route(at(text), Protocol::Tcp)
                .map(|r| (r.peer.to_string(), r.source))
        };
        let own = Some(IpAddr::from([10, 0, 0, 5]));
        assert_eq!(route("192.0.2.1:80"), Ok(("192.0.2.1:80".into(), own)));
        assert_eq!(route("10.43.0.1:80"), Ok(("10.0.0.7:8080".into(), own)));
        assert_eq!(route("192.0.2.1:9"), Err(Refused::Denied));
        assert_eq!(route("[2001:db8::1]:80"), Err(Refused::Unreachable));
    }

    #[tokio::test]
    async fn loopback_finds_servers_on_all_addresses() {
        let sockets = pod();
        let route = || sockets.route(at("127.0.0.1:8080"), Protocol::Tcp).unwrap().peer;
        assert_eq!(route(), at("127.1.2.3:8080"));
        let claim = sockets.claim(Protocol::Tcp, at("10.0.0.5:8080"));
        assert_eq!(route(), at("10.0.0.5:8080"));
        drop(claim);
        assert_eq!(route(), at("127.1.2.3:8080"));
        assert_eq!(sockets.shown(at("127.1.2.3:8080")), at("127.0.0.1:8080"));
    }

    /// The same pod with an address of IPv6 beside it.
    struct Dual;

    #[async_trait]
    impl Network for Dual {
        fn pod_ip(&self) -> IpAddr {
            Pod.pod_ip()
        }
        fn loopback(&self) -> IpAddr {
            Pod.loopback()
        }
        fn pod_ip_of(&self, ipv6: bool) -> Option<IpAddr> {
            Some(if ipv6 {
                at("[fd00::5]:1").ip()
            } else {
                self.pod_ip()
            })
        }
        fn loopback_of(&self, ipv6: bool) -> Option<IpAddr> {
            Some(if ipv6 {
                at("[fdc0::5]:1").ip()
            } else {
                self.loopback()
            })
        }
        fn may_bind(&self, _: SocketAddr) -> bool {
            true
        }
        fn may_connect(&self, _: SocketAddr) -> bool {
            true
        }
        async fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, ResolveError> {
            Pod.resolve(name).await
        }
    }

    #[tokio::test]
    async fn addresses_of_ipv6_mean_what_their_siblings_do() {
        let sockets = Sockets::new(Arc::new(Dual), Arc::default(), Handle::current());
        let bound = |text| {
            sockets
                .bind(at(text))
                .map(|b| (b.address.to_string(), b.wildcard))
        };
        assert_eq!(bound("[::]:80"), Ok(("[fd00::5]:80".into(), true)));
        assert_eq!(bound("[::1]:80"), Ok(("[fdc0::5]:80".into(), false)));
        assert_eq!(bound("[fd00::6]:80"), Err(Refused::NotBindable));
        assert_eq!(bound("0.0.0.0:80"), Ok(("10.0.0.5:80".into(), true)));
        let route = |text| sockets.route(at(text), Protocol::Tcp).unwrap();
        assert_eq!(route("[2001:db8::1]:80").source, Some(at("[fd00::5]:1").ip()));
        assert_eq!(route("[::1]:80").peer, at("[fdc0::5]:80"));
        let _claim = sockets.claim(Protocol::Tcp, at("[fd00::5]:80"));
        assert_eq!(route("[::1]:80").peer, at("[fd00::5]:80"));
        assert_eq!(route("127.0.0.1:80").peer, at("127.1.2.3:80"));
        assert_eq!(sockets.shown(at("[fdc0::5]:80")), at("[::1]:80"));
        assert_eq!(sockets.sibling(at("10.0.0.5:80")), Some(at("[fd00::5]:80")));
        assert_eq!(sockets.sibling(at("127.0.0.1:80")), None);
        assert_eq!(sockets.resolve("web").await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn on_the_plain_host_addresses_mean_what_they_say() {
        let sockets = Sockets::new(Arc::new(crate::HostNetwork), Arc::default(), Handle::current());
        assert_eq!(sockets.bind(at("0.0.0.0:80")).unwrap().address, at("0.0.0.0:80"));
        let route = sockets.route(at("127.0.0.1:80"), Protocol::Tcp).unwrap();
        assert_eq!(
            route,
            Route {
                peer: at("127.0.0.1:80"),
                source: None
            }
        );
        assert_eq!(sockets.shown(at("127.0.0.1:80")), at("127.0.0.1:80"));
    }

    #[tokio::test]
    async fn names_give_only_usable_addresses() {
        assert_eq!(pod().resolve("web").await, Ok(vec![IpAddr::from([10, 43, 0, 1])]));
        assert_eq!(
            pod().resolve("192.0.2.7").await,
            Ok(vec![IpAddr::from([192, 0, 2, 7])])
        );
        assert_eq!(
            pod().resolve("localhost").await,
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        );
    }
}
