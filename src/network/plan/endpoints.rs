//! Which endpoints a port of a Service may lead to.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointHints, EndpointPort};
use sys::nft::Family;

use super::frontend::{Backends, Nobody, Protocol, number};
use super::here::Here;
use crate::catalog::{Entry, address_of, is_ready, is_serving_while_terminating};

/// Endpoints of one family that one port of a Service may lead to.
pub(super) struct Candidates<'a> {
    here: &'a Here,
    found: Vec<(SocketAddr, &'a Endpoint)>,
}

/// Those that were chosen, and why there may be none.
pub(super) struct Choice {
    pub(super) backends: Backends,
    pub(super) nobody: Nobody,
}

impl<'a> Candidates<'a> {
    pub(super) fn new(
        entry: &'a Entry,
        service_port: &ServicePort,
        protocol: Protocol,
        family: Family,
        here: &'a Here,
    ) -> Candidates<'a> {
        let mut found = Vec::new();
        for slice in entry.slices(family) {
            let ports = slice.ports.iter().flatten();
            let Some(port) = ports
                .filter_map(|port| meant(port, service_port, protocol))
                .next()
            else {
                continue;
            };
            let endpoints = slice.endpoints.iter().flatten();
            found.extend(endpoints.filter_map(|e| Some((SocketAddr::new(address_of(e, family)?, port), e))));
        }
        Candidates { here, found }
    }

    /// Those that are ready; if there are none, those that still answer while
    /// they are being taken down. A policy of `Local` is strict, a preference
    /// for what is close is not.
    pub(super) fn choose(&self, only_local: bool) -> Choice {
        if !only_local {
            let ready: Vec<_> = self.having(is_ready).collect();
            let backends = match ready.is_empty() {
                true => sorted(self.having(is_serving_while_terminating)),
                false => sorted(close(ready, self.here).into_iter()),
            };
            return Choice {
                backends,
                nobody: Nobody::Refuse,
            };
        }
        let here = |wanted: fn(&Endpoint) -> bool| {
            self.having(wanted)
                .filter(|(_, endpoint)| is_here(endpoint, self.here))
        };
        let mut backends = sorted(here(is_ready));
        if backends.is_empty() {
            backends = sorted(here(is_serving_while_terminating));
        }
        let anybody = |endpoint: &Endpoint| is_ready(endpoint) || is_serving_while_terminating(endpoint);
        let nobody = match self.having(anybody).next() {
            Some(_) => Nobody::Drop,
            None => Nobody::Refuse,
        };
        Choice { backends, nobody }
    }

    fn having(&self, wanted: impl Fn(&Endpoint) -> bool) -> impl Iterator<Item = (SocketAddr, &'a Endpoint)> {
        self.found
            .iter()
            .copied()
            .filter(move |(_, endpoint)| wanted(endpoint))
    }
}

/// How many endpoints of a Service are ready on this node, whatever their ports.
pub fn local_ready(entry: &Entry, here: &Here) -> usize {
    let ready = entry
        .endpoints()
        .filter(|(_, endpoint)| is_ready(endpoint) && is_here(endpoint, here));
    let pods = ready.map(|(ip, endpoint)| {
        let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
        uid.unwrap_or_else(|| ip.to_string())
    });
    pods.collect::<BTreeSet<String>>().len()
}

fn is_here(endpoint: &Endpoint, here: &Here) -> bool {
    endpoint.node_name.as_ref() == Some(&here.node_name)
}

/// Of ready endpoints those that their hints give to this node, or else to its
/// zone. All of them if any has no hint, so that no change of hints leaves a
/// client without anybody.
fn close<'a>(ready: Vec<(SocketAddr, &'a Endpoint)>, here: &Here) -> Vec<(SocketAddr, &'a Endpoint)> {
    let node = |hints: &EndpointHints| {
        let nodes = hints.for_nodes.as_deref().filter(|nodes| !nodes.is_empty());
        nodes.map(|nodes| nodes.iter().any(|node| node.name == here.node_name))
    };
    let zone = |hints: &EndpointHints| {
        let zones = hints.for_zones.as_deref().filter(|zones| !zones.is_empty());
        zones.map(|zones| zones.iter().any(|zone| Some(&zone.name) == here.zone.as_ref()))
    };
    hinted(&ready, node)
        .or_else(|| hinted(&ready, zone))
        .unwrap_or(ready)
}

/// Those whose hint says yes; `None` if nobody's does, or one has none.
fn hinted<'a>(
    ready: &[(SocketAddr, &'a Endpoint)],
    hint: impl Fn(&EndpointHints) -> Option<bool>,
) -> Option<Vec<(SocketAddr, &'a Endpoint)>> {
    let mut chosen = Vec::new();
    for (address, endpoint) in ready {
        if endpoint.hints.as_ref().and_then(&hint)? {
            chosen.push((*address, *endpoint));
        }
    }
    (!chosen.is_empty()).then_some(chosen)
}

fn sorted<'a>(found: impl Iterator<Item = (SocketAddr, &'a Endpoint)>) -> Backends {
    let mut backends: Backends = found.map(|(address, _)| address).collect();
    backends.sort();
    backends.dedup();
    backends
}

/// The number of a slice's port if it is the one that the Service's port means.
fn meant(port: &EndpointPort, wanted: &ServicePort, protocol: Protocol) -> Option<u16> {
    let name = |name: &Option<String>| name.clone().unwrap_or_default();
    let same =
        name(&port.name) == name(&wanted.name) && Protocol::parse(port.protocol.as_deref()) == Some(protocol);
    port.port.filter(|_| same).and_then(number)
}
