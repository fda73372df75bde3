//! What `/metrics` shows of the group.

use std::sync::atomic::AtomicU64;

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::judge;
use super::wire::MemberList;
use crate::pki::Ending;

type Number = Gauge<u64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Peer {
    name: String,
}

/// Gauges that are brought up to date whenever somebody reads them.
pub struct Gauges {
    term: Number,
    is_leader: Number,
    has_leader: Number,
    committed: Number,
    applied: Number,
    lag: Family<Peer, Number>,
    reachable: Family<Peer, Number>,
    ends: Family<Named, Gauge>,
}

/// What ends, by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Named {
    name: &'static str,
}

impl Gauges {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let add =
            |name: &str, help: &str| metrics.add(&format!("coracle_raft_{name}"), help, Number::default());
        let of_peers = |name: &str, help: &str| {
            metrics.add(
                &format!("coracle_raft_peer_{name}"),
                help,
                Family::<Peer, Number>::default(),
            )
        };
        Self {
            term: add("term", "The term"),
            is_leader: add("is_leader", "1 on the server that leads"),
            has_leader: add("has_leader", "1 on a server that knows who leads"),
            committed: add("committed_index", "Last entry known to be committed"),
            applied: add("applied_index", "Last entry applied"),
            lag: of_peers("lag_entries", "Entries that a server lacks; told by the leader"),
            reachable: of_peers("reachable", "1 for a server heard of lately; told by the leader"),
            ends: metrics.add(
                "coracle_certificate_expiration_timestamp_seconds",
                "When the authorities and this server's own certificates end",
                Family::default(),
            ),
        }
    }

    /// Takes in how things are.
    pub fn update(&self, status: &store::Status, here: &judge::Here) {
        let leadership = &status.leadership;
        self.term.set(leadership.term);
        self.is_leader.set(leadership.leads.into());
        self.has_leader.set(leadership.leader.is_some().into());
        self.committed.set(status.committed);
        self.applied.set(status.applied);
        self.peers(&judge::members(status, here));
    }

    /// Takes in when certificates end.
    pub fn ending(&self, endings: &[Ending]) {
        for Ending { name, ends, .. } in endings {
            self.ends.get_or_create(&Named { name }).set(*ends);
        }
    }

    fn peers(&self, members: &MemberList) {
        // Of those who are gone, and of another leader's knowledge, nothing stays.
        self.lag.clear();
        self.reachable.clear();
        for member in members
            .items
            .iter()
            .filter(|member| member.id != members.answered_by)
        {
            let peer = Peer {
                name: member.name.clone(),
            };
            if let Some(lag) = member.lag {
                self.lag.get_or_create(&peer).set(lag);
            }
            if let Some(reachable) = member.reachable {
                self.reachable.get_or_create(&peer).set(reachable.into());
            }
        }
    }
}
