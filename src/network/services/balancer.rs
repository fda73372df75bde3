//! Choosing endpoints for sockets that never meet the kernel's rules: those of
//! Wasm guests in the shared namespace. The source address stays the pod's.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::{Random, SystemRandom};
use sys::nft::Family;

use super::table::Delta;
use crate::plan::{self, Clients, Frontend, Place, Protocol};

/// Clients whose endpoint is remembered, per frontend; guests of one node.
const STICKY_MAX: usize = 1 << 16;

/// The plan for guests' sockets; always the same as the kernel's.
#[derive(Debug)]
pub struct Balancer {
    // A std lock: nothing awaits while it is held.
    frontends: RwLock<HashMap<Frontend, Group>>,
    /// Where node ports are reached.
    node_addresses: Vec<IpAddr>,
}

#[derive(Debug)]
struct Group {
    plan: plan::Group,
    /// Counts connections; each goes to the next endpoint.
    turn: AtomicUsize,
    /// Where clients went last, and when.
    sticky: Mutex<HashMap<IpAddr, (SocketAddr, Instant)>>,
}

impl Balancer {
    pub(super) fn new(node_addresses: Vec<IpAddr>) -> Balancer {
        Balancer {
            frontends: RwLock::default(),
            node_addresses,
        }
    }

    /// One ready endpoint of the Service at `destination` for the pod at
    /// `client`, or `destination` itself if that is no Service, has no endpoint
    /// or does not let this client in (the host then refuses or drops).
    pub fn pick(&self, client: IpAddr, destination: SocketAddr, protocol: Protocol) -> SocketAddr {
        self.pick_at(client, destination, protocol, Instant::now())
    }

    fn pick_at(
        &self,
        client: IpAddr,
        destination: SocketAddr,
        protocol: Protocol,
        now: Instant,
    ) -> SocketAddr {
        let frontends = self.frontends.read().unwrap_or_else(PoisonError::into_inner);
        let ip = destination.ip();
        let find = |place, clients| {
            frontends.get(&Frontend {
                place,
                clients,
                protocol,
                port: destination.port(),
            })
        };
        let node = self.node_addresses.contains(&ip);
        let places = [
            Some(Place::Address(ip)),
            node.then(|| Place::Node(Family::of(ip))),
        ];
        let found = places.into_iter().flatten().find_map(|place| {
            let all = find(place, Clients::All)?;
            Some(
                all.admits(client)
                    .then(|| find(place, Clients::Inside).unwrap_or(all)),
            )
        });
        let group = found.flatten();
        group
            .and_then(|group| group.next(client, now))
            .unwrap_or(destination)
    }

    pub(super) fn apply(&self, deltas: &[Delta]) {
        let mut frontends = self.frontends.write().unwrap_or_else(PoisonError::into_inner);
        for delta in deltas {
            match &delta.new {
                Some(plan) => {
                    let group = frontends
                        .entry(delta.frontend)
                        .or_insert_with(Group::starting_somewhere);
                    group.plan.clone_from(plan);
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
            plan: plan::Group::default(),
            turn: AtomicUsize::new(start),
            sticky: Mutex::default(),
        }
    }

    fn admits(&self, client: IpAddr) -> bool {
        let sources = &self.plan.sources;
        sources.is_empty() || sources.iter().any(|range| range.contains(client))
    }

    fn next(&self, client: IpAddr, now: Instant) -> Option<SocketAddr> {
        let Some(seconds) = self.plan.sticky else {
            return self.in_turn();
        };
        let stays = Duration::from_secs(seconds.into());
        let current = |used: Instant| now.saturating_duration_since(used) < stays;
        let mut sticky = self.sticky.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = sticky
            .get(&client)
            .filter(|(_, used)| current(*used))
            .map(|(backend, _)| *backend);
        let backend = match kept.filter(|backend| self.plan.backends.contains(backend)) {
            Some(backend) => backend,
            None => self.in_turn()?,
        };
        if sticky.len() >= STICKY_MAX {
            sticky.retain(|_, (_, used)| current(*used));
        }
        if sticky.len() < STICKY_MAX {
            sticky.insert(client, (backend, now));
        }
        Some(backend)
    }

    fn in_turn(&self) -> Option<SocketAddr> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let backends = &self.plan.backends;
        backends.get(turn.checked_rem(backends.len())?).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::SourceRange;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 64, 0, 9));

    fn delta(place: Place, clients: Clients, port: u16, new: Option<plan::Group>) -> Delta {
        let frontend = Frontend {
            place,
            clients,
            protocol: Protocol::Tcp,
            port,
        };
        Delta {
            frontend,
            old: None,
            new,
        }
    }

    fn at(ip: [u8; 4]) -> Place {
        Place::Address(ip.into())
    }

    fn group(list: &[&str]) -> plan::Group {
        plan::Group {
            backends: list.iter().map(|b| b.parse().unwrap()).collect(),
            ..plan::Group::default()
        }
    }

    fn balancer() -> Balancer {
        Balancer::new(vec![[192, 0, 2, 2].into()])
    }

    fn pick(balancer: &Balancer, destination: &str) -> String {
        balancer
            .pick(CLIENT, destination.parse().unwrap(), Protocol::Tcp)
            .to_string()
    }

    const TWO: [&str; 2] = ["10.64.0.2:8080", "10.64.0.3:8080"];

    #[test]
    fn endpoints_take_turns_and_strangers_pass() {
        let balancer = balancer();
        balancer.apply(&[
            delta(at([10, 43, 0, 7]), Clients::All, 80, Some(group(&TWO))),
            delta(
                Place::Node(Family::Ip),
                Clients::All,
                30080,
                Some(group(&TWO[..1])),
            ),
            delta(at([10, 43, 0, 8]), Clients::All, 80, Some(group(&[]))),
        ]);
        let mut picked = [pick(&balancer, "10.43.0.7:80"), pick(&balancer, "10.43.0.7:80")];
        picked.sort();
        assert_eq!(picked, TWO);
        assert_eq!(pick(&balancer, "192.0.2.2:30080"), TWO[0]);
        for same in ["10.43.0.7:81", "10.43.0.8:80", "192.0.2.3:30080", "[fd00::1]:80"] {
            assert_eq!(pick(&balancer, same), same);
        }
        let udp = balancer.pick(CLIENT, "10.43.0.7:80".parse().unwrap(), Protocol::Udp);
        assert_eq!(udp.to_string(), "10.43.0.7:80");
        balancer.apply(&[delta(at([10, 43, 0, 7]), Clients::All, 80, None)]);
        assert_eq!(pick(&balancer, "10.43.0.7:80"), "10.43.0.7:80");
    }

    #[test]
    fn a_sticky_client_stays_until_its_time_or_its_endpoint_ends() {
        let balancer = balancer();
        let sticky = |list: &[&str]| plan::Group {
            sticky: Some(10),
            ..group(list)
        };
        let place = at([10, 43, 0, 7]);
        balancer.apply(&[delta(place, Clients::All, 80, Some(sticky(&TWO)))]);
        let start = Instant::now();
        let pick = |seconds| {
            let now = start + Duration::from_secs(seconds);
            balancer.pick_at(CLIENT, "10.43.0.7:80".parse().unwrap(), Protocol::Tcp, now)
        };
        let first = pick(0);
        assert!((1..=5).all(|n| pick(n * 9) == first));
        assert_ne!(pick(60), first, "ten seconds of silence end it");
        balancer.apply(&[delta(place, Clients::All, 80, Some(sticky(&TWO[..1])))]);
        assert_eq!(pick(61).to_string(), TWO[0]);
    }

    #[test]
    fn guests_are_inside_and_heed_source_ranges() {
        let balancer = balancer();
        let place = at([203, 0, 113, 5]);
        let local = plan::Group {
            nobody: plan::Nobody::Drop,
            ..group(&[])
        };
        balancer.apply(&[
            delta(place, Clients::All, 80, Some(local)),
            delta(place, Clients::Inside, 80, Some(group(&TWO[1..]))),
        ]);
        assert_eq!(pick(&balancer, "203.0.113.5:80"), TWO[1]);
        let guarded = plan::Group {
            sources: vec![SourceRange::parse("192.0.2.0/24").unwrap()],
            ..group(&TWO)
        };
        balancer.apply(&[delta(place, Clients::All, 80, Some(guarded))]);
        assert_eq!(pick(&balancer, "203.0.113.5:80"), "203.0.113.5:80");
    }
}
