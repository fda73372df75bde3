//! A witness in the group: what a leader does about it, and what it does itself.
//!
//! A witness that is elected has entries that a full server lacks and needs. It
//! leads until one has them, takes no writes, and hands leadership over. When
//! every full voter has some part of the log, the leader says so in the log
//! (`Body::Held`): from there on the witness need not keep that part.

use super::Core;
use crate::command::{Body, NOBODY};
use crate::membership;
use crate::plant::Plant;

impl Core {
    /// Looks at who leads now: a witness steps aside, and another one begins to keep count for its own.
    pub(super) fn notice_witness(&mut self) {
        if self.habits.witness {
            return self.step_aside();
        }
        let term = self.member.term();
        if self.keeping.term != term && self.member.settled() {
            // Whatever a witness does not have was committed before, and this member knows of it now.
            (self.keeping.term, self.keeping.forgotten) = (term, self.member.committed());
        }
    }

    fn step_aside(&mut self) {
        let stays = self.habits.plants.has(Plant::WitnessStays);
        if !self.member.leads() || self.member.handing_over() || stays {
            return;
        }
        let (health, roster) = (self.member.health(), &self.meta.roster);
        // It is sent what it lacks first; if it does not come so far, another one is chosen.
        if let Some(heir) = membership::heir(&health, &self.meta.members, &roster.peers, self.meta.member) {
            self.member.hand_over(heir);
        }
    }

    /// Whether a change of the members may be under way, as far as this member knows.
    #[cfg(test)]
    pub fn changing(&self) -> bool {
        self.member.changing()
    }

    /// Up to which entry the witness may lack some; 0 without a witness.
    pub(super) fn forgotten(&self) -> u64 {
        match self.meta.roster.witness() {
            None => 0,
            Some(_) if self.keeping.term == self.member.term() => self.keeping.forgotten,
            Some(_) => self.member.committed(),
        }
    }

    /// The witness will lack entries up to this one.
    pub(super) fn forgets(&mut self, index: u64) {
        self.keeping.forgotten = self.keeping.forgotten.max(index);
    }

    /// Counts what was applied.
    pub(super) fn count_applied(&mut self, bytes: impl Iterator<Item = usize>) {
        if self.meta.roster.witness().is_some() {
            self.keeping.applied_bytes += bytes.sum::<usize>();
        }
    }

    /// The witness was told.
    pub(super) fn held(&mut self, index: u64) {
        self.meta.held = self.meta.held.max(index);
        self.keeping.applied_bytes = 0;
    }

    /// Tells the witness what it need not keep, once that is worth an entry of its own.
    pub(super) fn tell_witness(&mut self, now_ms: u64) {
        let due = self.meta.roster.witness().is_some()
            && self.keeping.applied_bytes >= self.habits.keep_log_bytes
            // Who shall be a full voter has what the witness lacks now, not what it will lack soon.
            && !self.member.changing();
        if !due {
            return;
        }
        let everywhere = self.everywhere();
        if everywhere > self.meta.held {
            let command = self.command(NOBODY, now_ms, Body::Held(everywhere));
            if self.member.propose(vec![command]).is_ok() {
                self.forgets(everywhere);
                self.keeping.applied_bytes = 0;
            }
        }
    }

    /// Every full voter is known to have the entries up to this one, and all of them are committed.
    fn everywhere(&self) -> u64 {
        let members = &self.meta.members;
        let voters = members.voters.iter().chain(&members.voters_outgoing);
        let (health, roster) = (self.member.health(), &self.meta.roster);
        let known = voters.filter(|id| !roster.is_witness(**id)).filter_map(|id| {
            let known = health.iter().find(|health| health.id == *id);
            let overlooked = self.habits.plants.has(Plant::WitnessHoldsForSome);
            match known {
                Some(known) if !known.active && overlooked => None,
                known => Some(known.map_or(0, |known| known.matched)),
            }
        });
        known.min().unwrap_or(0).min(self.meta.applied)
    }
}
