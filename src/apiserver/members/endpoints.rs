//! Where the API is, for pods and agents: the addresses of the servers in the
//! Endpoints and the EndpointSlice of `default/kubernetes`, kept by the leader.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base::Clock;
use store::{Status, Store};

use crate::registry::Core;

/// How often the servers are looked at.
const INTERVAL: Duration = Duration::from_secs(2);
/// So many looks after which what is written is compared anew, since anybody may have changed it.
const LOOKS: u32 = 15;
/// A server that was not heard of for so long is taken out.
const SILENCE_MAX: Duration = Duration::from_secs(8);

/// When each member was last heard of, as the leader's clock says.
#[derive(Default)]
struct Lately {
    heard: BTreeMap<u64, Duration>,
}

impl Lately {
    /// The addresses of the servers that answer, `own` among them, in order.
    fn servers(&mut self, status: &Status, own: IpAddr, now: Duration) -> Vec<IpAddr> {
        let voters = &status.members.voters;
        self.heard.retain(|id, _| voters.contains(id));
        for id in voters {
            let active = status
                .health
                .iter()
                .any(|health| health.id == *id && health.active);
            // A new leader gives everybody the time to be heard.
            let heard = self.heard.entry(*id).or_insert(now);
            if active {
                *heard = now;
            }
        }
        let answers = |id: &u64| self.heard.get(id).is_some_and(|at| now - *at <= SILENCE_MAX);
        // A witness serves no API.
        let address = |id: &u64| {
            status
                .peers
                .iter()
                .find(|peer| peer.id == *id && !peer.witness)?
                .address
                .parse()
                .ok()
        };
        let others = voters.iter().filter(|id| **id != status.member && answers(id));
        let mut servers: Vec<IpAddr> = others
            .filter_map(address)
            .map(|address: SocketAddr| address.ip())
            .filter(|ip| ip.is_ipv4() == own.is_ipv4())
            .chain([own])
            .collect();
        servers.sort_unstable();
        servers.dedup();
        servers
    }
}

/// Publishes the servers for as long as this one leads. `own` is its address; `published` says that
/// it alone is what stands there already.
pub async fn publish(
    core: Core,
    store: Store,
    own: IpAddr,
    published: bool,
    clock: std::sync::Arc<dyn Clock>,
) {
    let mut lately = Lately::default();
    let mut last = if published { vec![own] } else { Vec::new() };
    for look in 1u32.. {
        let Ok(status) = store.status().await else { return };
        let servers = lately.servers(&status, own, clock.monotonic());
        if servers != last || look % LOOKS == 0 {
            match core.publish_api(&servers).await {
                Ok(()) => last = servers,
                Err(error) => tracing::warn!(%error, "could not publish the addresses of the API"),
            }
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use store::{Health, Peer};

    use super::*;

    #[test]
    fn silent_servers_are_taken_out_after_a_while() {
        let peer = |id: u64| Peer {
            id,
            name: format!("n{id}"),
            address: format!("10.0.0.{id}:6443"),
            witness: id == 5,
        };
        let mut status = Status {
            member: 1,
            peers: (1..=5).map(peer).collect(),
            ..Status::default()
        };
        status.members.voters = vec![1, 2, 3, 5];
        status.members.learners = vec![4];
        let hear = |status: &mut Status, ids: &[u64]| {
            let health = |id: &u64| Health {
                id: *id,
                matched: 1,
                active: true,
            };
            status.health = ids.iter().map(health).collect();
        };
        let mut lately = Lately::default();
        let mut at = |status: &Status, seconds: u64| -> Vec<String> {
            let servers = lately.servers(status, [10, 0, 0, 1].into(), Duration::from_secs(seconds));
            servers.iter().map(IpAddr::to_string).collect()
        };
        let all = ["10.0.0.1", "10.0.0.2", "10.0.0.3"];
        assert_eq!(at(&status, 0), all, "nobody had time to be heard");
        hear(&mut status, &[2, 3, 4, 5]);
        assert_eq!(at(&status, 2), all);
        hear(&mut status, &[2]);
        assert_eq!(at(&status, 10), all);
        assert_eq!(at(&status, 11), ["10.0.0.1", "10.0.0.2"]);
        hear(&mut status, &[2, 3]);
        assert_eq!(at(&status, 12), all);
        status.members.voters = vec![1, 3];
        assert_eq!(at(&status, 14), ["10.0.0.1", "10.0.0.3"]);
    }
}
