//! What can be asked of a member about the group.

use ::raft::eraftpb::ConfState;

use crate::membership::{self, Health, Peer};

/// Who leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's id, if it is known.
    pub leader: Option<u64>,
    /// The term.
    pub term: u64,
    /// This member leads, and knows everything that was ever committed.
    pub leads: bool,
}

/// How a member sees the group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The group's id.
    pub cluster: u64,
    /// This member's id.
    pub member: u64,
    /// Who leads.
    pub leadership: Leadership,
    /// Last entry applied here.
    pub applied: u64,
    /// Last entry known to be committed.
    pub committed: u64,
    /// Last entry of the log here.
    pub last_index: u64,
    /// The latest revision here.
    pub revision: u64,
    /// History before this revision is gone.
    pub compacted: u64,
    /// Voters and learners.
    pub members: ConfState,
    /// Members whose promotion or removal may not be known to a majority yet. Nobody relies on it before.
    pub unsettled: Vec<u64>,
    /// Where members are.
    pub peers: Vec<Peer>,
    /// How the members are; only the leader knows.
    pub health: Vec<Health>,
}

impl Status {
    /// Whether a member votes, and the group bears the loss of any minority of its voters, this one counted.
    pub fn counts(&self, id: u64) -> bool {
        self.members.voters.contains(&id) && !self.unsettled.contains(&id)
    }

    /// To whom this member, which leads, would best hand leadership.
    pub fn heir(&self) -> Option<u64> {
        membership::heir(&self.health, &self.members, &self.peers, self.member)
    }
}
