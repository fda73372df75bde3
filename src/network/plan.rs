//! Which address leads where: a Service and its endpoints to frontends and
//! backends, without any I/O.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort};

use crate::catalog::{Entry, cluster_ips, is_ready, is_serving_while_terminating};

/// A transport protocol that Services may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol of a Service's or slice's port; TCP if it says nothing.
    pub fn parse(text: Option<&str>) -> Option<Protocol> {
        match text {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }

    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
        }
    }
}

/// Where clients of a Service knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frontend {
    /// None: any address of the node (NodePort).
    pub address: Option<Ipv4Addr>,
    /// Transport.
    pub protocol: Protocol,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Frontend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => write!(f, "{address}:{} {:?}", self.port, self.protocol),
            None => write!(f, "node port {} {:?}", self.port, self.protocol),
        }
    }
}

/// Who answers, in order of address and port, each once. Empty: nobody.
pub type Backends = Vec<SocketAddrV4>;

/// What the plan depends on besides the Service.
#[derive(Debug, Clone)]
pub struct Here {
    /// This node.
    pub node_name: String,
    /// The cluster's DNS, which every node answers by itself: never balanced.
    pub dns_ip: Ipv4Addr,
}

/// Where a Service's frontends lead. Session affinity is not honoured yet.
pub fn plan(entry: &Entry, here: &Here) -> Vec<(Frontend, Backends)> {
    let Some(service) = entry.service.as_deref() else {
        return Vec::new();
    };
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    if spec.type_.as_deref() == Some("ExternalName") {
        return Vec::new();
    }
    let internal: Vec<Ipv4Addr> = cluster_ips(service)
        .into_iter()
        .filter(|ip| *ip != here.dns_ip)
        .collect();
    let external = external_ips(service, spec);
    let mut plan = Vec::new();
    for service_port in spec.ports.iter().flatten() {
        let Some(protocol) = Protocol::parse(service_port.protocol.as_deref()) else {
            continue;
        };
        let Some(port) = number(service_port.port) else {
            continue;
        };
        let candidates = Candidates {
            entry,
            service_port,
            protocol,
            here,
        };
        let inside = candidates.backends(is_local(&spec.internal_traffic_policy));
        let frontend = |address| Frontend {
            address: Some(address),
            protocol,
            port,
        };
        plan.extend(internal.iter().map(|ip| (frontend(*ip), inside.clone())));
        let node_port = service_port.node_port.and_then(number);
        if external.is_empty() && node_port.is_none() {
            continue;
        }
        let outside = candidates.backends(is_local(&spec.external_traffic_policy));
        plan.extend(external.iter().map(|ip| (frontend(*ip), outside.clone())));
        plan.extend(node_port.map(|port| {
            (
                Frontend {
                    address: None,
                    protocol,
                    port,
                },
                outside,
            )
        }));
    }
    plan
}

/// Addresses other than the cluster's under which a Service is reachable.
fn external_ips(service: &Service, spec: &ServiceSpec) -> Vec<Ipv4Addr> {
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten();
    let handed_out = ingress
        .filter(|i| i.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|i| i.ip.as_ref());
    let mut ips: Vec<Ipv4Addr> = spec
        .external_ips
        .iter()
        .flatten()
        .chain(handed_out)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    ips.sort();
    ips.dedup();
    ips
}

/// The endpoints that one port of a Service may lead to.
struct Candidates<'a> {
    entry: &'a Entry,
    service_port: &'a ServicePort,
    protocol: Protocol,
    here: &'a Here,
}

impl Candidates<'_> {
    /// Those that are ready; if there are none, those that still answer while
    /// they are being taken down.
    fn backends(&self, only_local: bool) -> Backends {
        let ready = self.select(only_local, is_ready);
        if ready.is_empty() {
            self.select(only_local, is_serving_while_terminating)
        } else {
            ready
        }
    }

    fn select(&self, only_local: bool, wanted: fn(&Endpoint) -> bool) -> Backends {
        let mut backends = Vec::new();
        for slice in self.entry.slices() {
            let Some(port) = slice.ports.iter().flatten().find_map(|port| self.port(port)) else {
                continue;
            };
            let endpoints = slice.endpoints.iter().flatten().filter(|e| wanted(e));
            let near =
                endpoints.filter(|e| !only_local || e.node_name.as_ref() == Some(&self.here.node_name));
            let addresses = near.filter_map(|e| e.addresses.first()?.parse().ok());
            backends.extend(addresses.map(|ip| SocketAddrV4::new(ip, port)));
        }
        backends.sort();
        backends.dedup();
        backends
    }

    /// The number of a slice's port if it is the one that the Service's port means.
    fn port(&self, port: &EndpointPort) -> Option<u16> {
        let name = |name: &Option<String>| name.clone().unwrap_or_default();
        let same = name(&port.name) == name(&self.service_port.name)
            && Protocol::parse(port.protocol.as_deref()) == Some(self.protocol);
        port.port.filter(|_| same).and_then(number)
    }
}

fn is_local(policy: &Option<String>) -> bool {
    policy.as_deref() == Some("Local")
}

fn number(port: i32) -> Option<u16> {
    u16::try_from(port).ok().filter(|port| *port > 0)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{LoadBalancerIngress, LoadBalancerStatus, ServiceStatus};
    use k8s_openapi::api::discovery::v1::EndpointSlice;

    use super::*;
    use crate::catalog::Index;
    use crate::fixtures::{service, slice};

    fn lines(service: Service, slices: Vec<EndpointSlice>) -> Vec<String> {
        let mut index = Index::default();
        let key = index.apply_service(&Arc::new(service));
        for slice in slices {
            index.apply_slice(&Arc::new(slice));
        }
        let here = Here {
            node_name: "here".into(),
            dns_ip: [10, 43, 0, 10].into(),
        };
        let plan = plan(index.entry(&key).unwrap(), &here);
        let join = |b: &Backends| b.iter().map(|b| b.to_string()).collect::<Vec<_>>().join(" ");
        plan.iter()
            .map(|(f, b)| format!("{f} -> {}", join(b)).trim_end().to_string())
            .collect()
    }

    fn web() -> Service {
        service("x", "web", "10.43.0.7", &[("", 80)])
    }

    fn two() -> EndpointSlice {
        slice("x", "web", "web-1", &["10.64.0.3", "10.64.0.2"], &[("", 8080)])
    }

    fn with(slice: EndpointSlice, index: usize, ready: bool, terminating: bool) -> EndpointSlice {
        let mut slice = slice;
        let conditions = slice.endpoints.as_mut().unwrap()[index]
            .conditions
            .as_mut()
            .unwrap();
        (conditions.ready, conditions.terminating) = (Some(ready), Some(terminating));
        slice
    }

    #[test]
    fn ready_endpoints_of_all_slices_in_order() {
        let more = slice("x", "web", "web-2", &["10.64.0.2", "10.64.16.2"], &[("", 8080)]);
        assert_eq!(
            lines(web(), vec![two(), more]),
            ["10.43.0.7:80 Tcp -> 10.64.0.2:8080 10.64.0.3:8080 10.64.16.2:8080"]
        );
    }

    #[test]
    fn without_ready_endpoints_the_departing_answer_and_then_nobody() {
        let one_ready = with(two(), 0, false, true);
        assert_eq!(
            lines(web(), vec![one_ready.clone()]),
            ["10.43.0.7:80 Tcp -> 10.64.0.2:8080"]
        );
        let none_ready = with(one_ready, 1, false, false);
        assert_eq!(
            lines(web(), vec![none_ready.clone()]),
            ["10.43.0.7:80 Tcp -> 10.64.0.3:8080"]
        );
        let mut gone = none_ready;
        gone.endpoints.as_mut().unwrap()[0]
            .conditions
            .as_mut()
            .unwrap()
            .serving = Some(false);
        assert_eq!(lines(web(), vec![gone]), ["10.43.0.7:80 Tcp ->"]);
    }

    #[test]
    fn ports_are_matched_by_name_and_protocol() {
        let named = service("x", "web", "10.43.0.7", &[("http", 80), ("admin", 81)]);
        let slice = slice(
            "x",
            "web",
            "web-1",
            &["10.64.0.2"],
            &[("admin", 9000), ("http", 8080)],
        );
        assert_eq!(
            lines(named, vec![slice]),
            [
                "10.43.0.7:80 Tcp -> 10.64.0.2:8080",
                "10.43.0.7:81 Tcp -> 10.64.0.2:9000"
            ]
        );
    }

    #[test]
    fn node_ports_and_external_addresses_follow_their_own_policy() {
        let mut service = web();
        let spec = service.spec.as_mut().unwrap();
        spec.ports.as_mut().unwrap()[0].node_port = Some(30080);
        spec.external_ips = Some(vec!["203.0.113.5".into()]);
        spec.external_traffic_policy = Some("Local".into());
        let ingress = LoadBalancerIngress {
            ip: Some("203.0.113.9".into()),
            ..Default::default()
        };
        let status = LoadBalancerStatus {
            ingress: Some(vec![ingress]),
        };
        service.status = Some(ServiceStatus {
            load_balancer: Some(status),
            ..Default::default()
        });
        let mut slice = two();
        slice.endpoints.as_mut().unwrap()[0].node_name = Some("here".into());
        slice.endpoints.as_mut().unwrap()[1].node_name = Some("there".into());
        assert_eq!(
            lines(service, vec![slice]),
            [
                "10.43.0.7:80 Tcp -> 10.64.0.2:8080 10.64.0.3:8080",
                "203.0.113.5:80 Tcp -> 10.64.0.3:8080",
                "203.0.113.9:80 Tcp -> 10.64.0.3:8080",
                "node port 30080 Tcp -> 10.64.0.3:8080",
            ]
        );
    }

    #[test]
    fn headless_external_names_and_dns_are_not_balanced() {
        assert!(lines(service("x", "web", "None", &[("", 80)]), vec![two()]).is_empty());
        assert!(lines(service("x", "web", "10.43.0.10", &[("", 53)]), vec![two()]).is_empty());
        let mut external = web();
        external.spec.as_mut().unwrap().type_ = Some("ExternalName".into());
        assert!(lines(external, vec![two()]).is_empty());
    }

    #[test]
    fn ipv6_slices_and_nonsense_are_left_out() {
        let mut v6 = slice("x", "web", "web-6", &["fd00::1"], &[("", 8080)]);
        v6.address_type = "IPv6".into();
        let odd = slice("x", "web", "web-7", &["what", "10.64.0.9"], &[("", 70000)]);
        assert_eq!(lines(web(), vec![v6, odd]), ["10.43.0.7:80 Tcp ->"]);
    }
}
