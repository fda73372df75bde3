//! A group to judge changes of, for tests.

use ::raft::eraftpb::{ConfChangeV2, ConfState};

use super::{Change, Health, Peer, Roster, Situation, may_lead, plan};

/// Last entry of the leader's log.
const LAST: u64 = 5000;

/// What is known of a group whose member 1 leads.
pub struct Group {
    pub members: ConfState,
    pub roster: Roster,
    pub health: Vec<Health>,
    /// Up to which entry its witness may lack some.
    pub forgotten: u64,
}

/// The member of an id.
pub fn peer(id: u64) -> Peer {
    Peer {
        id,
        name: format!("n{id}"),
        address: format!("10.0.0.{id}:6443"),
        witness: false,
    }
}

/// The witness of an id.
pub fn witness(id: u64) -> Peer {
    Peer {
        witness: true,
        ..peer(id)
    }
}

impl Group {
    /// Voters 1 (leads), 2 and 3, learner 4; all have everything and are there. Member 9 was removed.
    pub fn of_three() -> Group {
        let health = |id| Health {
            id,
            active: true,
            matched: LAST,
        };
        Group {
            members: ConfState {
                voters: vec![1, 2, 3],
                learners: vec![4],
                ..ConfState::default()
            },
            roster: Roster {
                peers: (1..=4).map(peer).collect(),
                removed: vec![9],
            },
            health: (1..=4).map(health).collect(),
            forgotten: 0,
        }
    }

    /// The same, but member 3 is a witness, which has let go of most of its log.
    pub fn with_witness() -> Group {
        let mut group = Group::of_three();
        group.roster.announced(witness(3));
        group.forgotten = LAST - 10;
        group
    }

    /// What Raft is to do for a change, or why the leader refuses it.
    pub fn judge(&self, change: Change) -> Result<ConfChangeV2, String> {
        plan(&change, &self.situation())
    }

    /// Why the leader refuses a change; empty if it does not.
    pub fn refusal(&self, change: Change) -> String {
        let judged = match change {
            Change::Lead(id) => may_lead(id, &self.situation()),
            change => self.judge(change).map(drop),
        };
        judged.err().unwrap_or_default()
    }

    fn situation(&self) -> Situation<'_> {
        Situation {
            members: &self.members,
            roster: &self.roster,
            leader: 1,
            health: &self.health,
            last_index: LAST,
            forgotten: self.forgotten,
        }
    }
}
