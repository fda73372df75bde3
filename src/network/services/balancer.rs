//! Choosing endpoints for sockets that never meet the kernel's rules: those of
//! Wasm guests in the shared namespace. The source address stays the pod's.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};

use base::{Random, SystemRandom};

use super::table::Delta;
use crate::config::NetworkConfig;
use crate::plan::{Backends, Frontend, Protocol};

/// The plan for guests' sockets; always the same as the kernel's.
#[derive(Debug)]
pub struct Balancer {
    // A std lock: nothing awaits while it is held.
    frontends: RwLock<HashMap<Frontend, Group>>,
    /// Where node ports are reached.
    node_addresses: [Ipv4Addr; 2],
}

#[derive(Debug)]
struct Group {
    backends: Backends,
    /// Counts connections; each goes to the next endpoint.
    turn: AtomicUsize,
}

impl Balancer {
    pub(super) fn new(config: &NetworkConfig) -> Balancer {
        Balancer {
            frontends: RwLock::default(),
            node_addresses: [config.node_ip, config.gateway()],
        }
    }

    /// One ready endpoint of the Service at `destination`, or `destination`
    /// itself if that is no Service or has no endpoint (the host then refuses
    /// the connection).
    pub fn pick(&self, destination: SocketAddr, protocol: Protocol) -> SocketAddr {
        let SocketAddr::V4(v4) = destination else {
            return destination;
        };
        let (ip, port) = (*v4.ip(), v4.port());
        let node_port = self.node_addresses.contains(&ip);
        let frontends = self.frontends.read().unwrap_or_else(PoisonError::into_inner);
        let group = frontends
            .get(&Frontend {
                address: Some(ip),
                protocol,
                port,
            })
            .or_else(|| {
                frontends
                    .get(&Frontend {
                        address: None,
                        protocol,
                        port,
                    })
                    .filter(|_| node_port)
            });
        group.and_then(Group::next).map_or(destination, SocketAddr::V4)
    }

    pub(super) fn apply(&self, deltas: &[Delta]) {
        let mut frontends = self.frontends.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            match &delta.new {
                Some(backends) => {
                    let group = frontends
                        .entry(delta.frontend)
                        .or_insert_with(Group::starting_somewhere);
                    group.backends.clone_from(backends);
                }
                None => {
                    frontends.remove(&delta.frontend);
                }
            }
        }
    }
}

impl Group {
    /// Nodes must not all begin with the same endpoint.
    fn starting_somewhere() -> Group {
        let start = SystemRandom.number() as usize;
        Group {
            backends: Vec::new(),
            turn: AtomicUsize::new(start),
        }
    }

    fn next(&self) -> Option<SocketAddrV4> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        self.backends.get(turn.checked_rem(self.backends.len())?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    fn delta(address: Option<[u8; 4]>, port: u16, new: Option<&[&str]>) -> Delta {
        let frontend = Frontend {
            address: address.map(Into::into),
            protocol: Protocol::Tcp,
            port,
        };
        let parse = |list: &[&str]| list.iter().map(|b| b.parse().unwrap()).collect();
        Delta {
            frontend,
            old: None,
            new: new.map(parse),
        }
    }

    fn pick(balancer: &Balancer, destination: &str) -> String {
        balancer
            .pick(destination.parse().unwrap(), Protocol::Tcp)
            .to_string()
    }

    #[test]
    fn endpoints_take_turns_and_strangers_pass() {
        let balancer = Balancer::new(&fixtures::config("/data".as_ref()));
        let endpoints = ["10.64.0.2:8080", "10.64.0.3:8080"];
        balancer.apply(&[
            delta(Some([10, 43, 0, 7]), 80, Some(&endpoints)),
            delta(None, 30080, Some(&endpoints[..1])),
            delta(Some([10, 43, 0, 8]), 80, Some(&[])),
        ]);
        let mut picked = [pick(&balancer, "10.43.0.7:80"), pick(&balancer, "10.43.0.7:80")];
        picked.sort();
        assert_eq!(picked, endpoints);
        assert_eq!(pick(&balancer, "192.0.2.2:30080"), endpoints[0]);
        for same in ["10.43.0.7:81", "10.43.0.8:80", "192.0.2.3:30080", "[fd00::1]:80"] {
            assert_eq!(pick(&balancer, same), same);
        }
        let udp = balancer.pick("10.43.0.7:80".parse().unwrap(), Protocol::Udp);
        assert_eq!(udp.to_string(), "10.43.0.7:80");
        balancer.apply(&[delta(Some([10, 43, 0, 7]), 80, None)]);
        assert_eq!(pick(&balancer, "10.43.0.7:80"), "10.43.0.7:80");
    }
}
