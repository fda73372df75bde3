//! When a member stands for election.

use ::raft::StateRole;

use super::{ELECTION_TICKS, Member, WITNESS_PATIENCE};
use crate::plant::Plant;

/// Ticks between those who stand, one after the other, when the leader has hung up.
const TURN_TICKS: usize = 2;

impl Member {
    /// Lets one tick pass.
    pub fn tick(&mut self) {
        let raft = &mut self.node.raft;
        // The last voter left elects itself at once, and the library takes for
        // granted that its log is durable then.
        let only = raft.prs().is_singleton() && raft.state != StateRole::Leader;
        if only && raft.raft_log.persisted < raft.raft_log.last_index() {
            return;
        }
        // Drawn anew by the library in each change of role: set it each time.
        let draw = mix(self.seed ^ mix(raft.term)) as usize % ELECTION_TICKS;
        let patient = self.witness && !self.plants.has(Plant::WitnessStands);
        let least = ELECTION_TICKS * if patient { WITNESS_PATIENCE } else { 1 };
        raft.set_randomized_election_timeout(least + draw);
        if let Some((term, leader)) = self.deserted.take_if(|_| !patient)
            && (term, 0) == (raft.term, raft.leader_id)
        {
            // One after the other, so that they do not split the votes.
            let turn = raft
                .prs()
                .iter()
                .filter(|(id, _)| **id < raft.id && **id != leader)
                .count();
            raft.election_elapsed = (least + draw).saturating_sub(1 + turn * TURN_TICKS);
        }
        self.node.tick();
    }

    /// The connection on which this member ended: its process has, most likely. If it leads, this
    /// one need not wait as long as for a leader that is merely silent; whether there
    /// is an election, those decide who may still hear of the leader.
    pub fn hung_up(&mut self, id: u64) {
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Follower && raft.leader_id == id {
            let term = raft.term;
            raft.become_follower(term, 0);
            self.deserted = Some((term, id));
        }
    }
}

/// SplitMix64's finisher.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
