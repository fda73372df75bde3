//! Which address leads where: a Service and its endpoints to frontends and
//! groups of backends, without any I/O.

mod endpoints;
mod frontend;
mod here;
mod ranges;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServiceSpec};
use sys::nft::Family;

use crate::catalog::{Entry, cluster_ips};
use endpoints::{Candidates, Choice};
use frontend::number;

pub use endpoints::local_ready;
pub use frontend::{Backends, Clients, Door, Frontend, Group, Nobody, Place, Protocol};
pub use here::Here;
pub use ranges::SourceRange;

/// Where a Service's frontends lead.
pub fn plan(entry: &Entry, here: &Here) -> Vec<(Frontend, Group)> {
    let Some(service) = entry.service.as_deref() else {
        return Vec::new();
    };
    let Some(spec) = service.spec.as_ref().filter(|spec| !is_external_name(spec)) else {
        return Vec::new();
    };
    let reached = Reached::of(service, spec, here);
    let mut plan = Vec::new();
    for port in spec.ports.iter().flatten() {
        let Some(protocol) = Protocol::parse(port.protocol.as_deref()) else {
            continue;
        };
        let (Some(number), node_port) = (number(port.port), port.node_port.and_then(number)) else {
            continue;
        };
        for family in &here.families {
            let candidates = Candidates::new(entry, port, protocol, *family, here);
            let doors = reached.doors(*family, number, node_port);
            let sticky = sticky_seconds(spec);
            let add = |door: Knock| add(&mut plan, door, protocol, &candidates, spec, sticky);
            doors.into_iter().for_each(add);
        }
    }
    plan
}

/// One place and port at which a Service is reached.
struct Knock {
    place: Place,
    port: u16,
    /// Whether it is the address that clients inside the cluster use.
    internal: bool,
    sources: Vec<SourceRange>,
}

fn add(
    plan: &mut Vec<(Frontend, Group)>,
    knock: Knock,
    protocol: Protocol,
    candidates: &Candidates<'_>,
    spec: &ServiceSpec,
    sticky: Option<u32>,
) {
    let frontend = |clients| Frontend {
        place: knock.place,
        clients,
        protocol,
        port: knock.port,
    };
    let group = |only_local| {
        let Choice { backends, nobody } = candidates.choose(only_local);
        Group {
            backends,
            nobody,
            sticky,
            sources: knock.sources.clone(),
        }
    };
    if knock.internal {
        plan.push((
            frontend(Clients::All),
            group(is_local(&spec.internal_traffic_policy)),
        ));
        return;
    }
    let only_local = is_local(&spec.external_traffic_policy);
    plan.push((frontend(Clients::All), group(only_local)));
    // Who is inside the cluster already loses nothing by another hop.
    if only_local {
        let inside = group(false);
        if !inside.backends.is_empty() {
            plan.push((frontend(Clients::Inside), inside));
        }
    }
}

/// The addresses under which a Service is reached.
struct Reached {
    internal: Vec<IpAddr>,
    external: Vec<IpAddr>,
    balanced: Vec<IpAddr>,
    sources: Vec<SourceRange>,
}

impl Reached {
    fn of(service: &Service, spec: &ServiceSpec, here: &Here) -> Reached {
        let internal = cluster_ips(service);
        let external = spec
            .external_ips
            .iter()
            .flatten()
            .filter_map(|ip| ip.parse().ok());
        let balanced = balanced_ips(service);
        Reached {
            internal: internal
                .into_iter()
                .filter(|ip| !here.dns_ips.contains(ip))
                .collect(),
            external: external.filter(|ip| !balanced.contains(ip)).collect(),
            balanced,
            sources: ranges::of(spec),
        }
    }

    fn doors(&self, family: Family, port: u16, node_port: Option<u16>) -> Vec<Knock> {
        let knock = |place, port, internal, sources: &[SourceRange]| Knock {
            place,
            port,
            internal,
            sources: sources.to_vec(),
        };
        let at = |ips: &[IpAddr], internal, sources: &[SourceRange]| -> Vec<Knock> {
            let of_family = ips.iter().filter(|ip| Family::of(**ip) == family);
            of_family
                .map(|ip| knock(Place::Address(*ip), port, internal, sources))
                .collect()
        };
        let mut doors = at(&self.internal, true, &[]);
        doors.extend(at(&self.external, false, &[]));
        doors.extend(at(&self.balanced, false, &self.sources));
        // A Service of one family has node ports of that family only.
        if self.internal.iter().any(|ip| Family::of(*ip) == family) {
            doors.extend(node_port.map(|port| knock(Place::Node(family), port, false, &[])));
        }
        doors
    }
}

/// The addresses that a load balancer gave a Service, as far as it leaves the
/// last step to us.
pub fn balanced_ips(service: &Service) -> Vec<IpAddr> {
    let is_balancer = service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer");
    let balancer = service
        .status
        .as_ref()
        .and_then(|status| status.load_balancer.as_ref());
    let ingress = balancer
        .and_then(|balancer| balancer.ingress.as_ref())
        .into_iter()
        .flatten();
    let mut ips: Vec<IpAddr> = ingress
        .filter(|ingress| is_balancer && ingress.ip_mode.as_deref() != Some("Proxy"))
        .filter_map(|ingress| ingress.ip.as_ref()?.parse().ok())
        .collect();
    ips.sort();
    ips.dedup();
    ips
}

/// The port and the number of ready endpoints here that a health check of a
/// Service is about; `None` if it has none.
pub fn health(entry: &Entry, here: &Here) -> Option<(u16, usize)> {
    let spec = entry.service.as_deref()?.spec.as_ref()?;
    let port = spec.health_check_node_port.and_then(number)?;
    let checked = spec.type_.as_deref() == Some("LoadBalancer") && is_local(&spec.external_traffic_policy);
    checked.then(|| (port, local_ready(entry, here)))
}

/// Whether a Service's traffic from outside stays on the node that it reaches.
pub fn is_local_outside(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .is_some_and(|spec| is_local(&spec.external_traffic_policy))
}

fn is_external_name(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("ExternalName")
}

/// For how long a client stays with its endpoint.
fn sticky_seconds(spec: &ServiceSpec) -> Option<u32> {
    if spec.session_affinity.as_deref() != Some("ClientIP") {
        return None;
    }
    let client = spec
        .session_affinity_config
        .as_ref()
        .and_then(|c| c.client_ip.as_ref());
    let seconds = client
        .and_then(|client| client.timeout_seconds)
        .unwrap_or(STICKY_SECONDS);
    u32::try_from(seconds).ok().filter(|seconds| *seconds > 0)
}

/// Kubernetes' default: three hours.
const STICKY_SECONDS: i32 = 10_800;

fn is_local(policy: &Option<String>) -> bool {
    policy.as_deref() == Some("Local")
}

/// A port of this node that leads to a port of one of its pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostPort {
    /// At this address of the node; `None`: at all of them.
    pub address: Option<IpAddr>,
    /// Transport.
    pub protocol: Protocol,
    /// Port of the node.
    pub port: u16,
    /// The pod, as it is reached by one family.
    pub target: SocketAddr,
}

/// Where a pod's host ports lead.
pub fn host_ports(ports: &[HostPort]) -> Vec<(Frontend, Group)> {
    let fits = |port: &&HostPort| {
        port.address
            .is_none_or(|ip| ip.is_ipv4() == port.target.is_ipv4())
    };
    let one = |port: &HostPort| {
        let anywhere = Place::Node(Family::of(port.target.ip()));
        let frontend = Frontend {
            place: port.address.map_or(anywhere, Place::Address),
            clients: Clients::All,
            protocol: port.protocol,
            port: port.port,
        };
        let group = Group {
            backends: vec![port.target],
            ..Group::default()
        };
        (frontend, group)
    };
    ports.iter().filter(fits).map(one).collect()
}
