//! Changes of the members, from being applied to being settled.
//!
//! A member counts by the configuration that it has *applied*, so one that does
//! not know yet that a change is committed goes by the old one. Of two voters
//! and a third that is being promoted, the leader may know of three while the
//! others still need both of the two: lost in this moment, it takes the group
//! along. So a change is done when a majority of the new members knows that it
//! is committed, and not before: until then a new voter is shown as a learner,
//! and whoever asked for the change is not answered.
//!
//! That is known as soon as one more entry is committed that was proposed after
//! the end of the change was ([`Body::Settled`]): who has acknowledged it was
//! told with it how far entries are committed, and has written that down with
//! it. Any majority that is left includes one of those, and Raft's questions for
//! votes carry what is committed to the others.
//!
//! Leaders of versions before this one propose no such entry. A follower that
//! misses it for a second has it proposed by way of the leader, once it has
//! applied an entry of that leader's term: then the leader, which alone can
//! have committed that one, knows of everything before it, the change included.
//! Such an entry says in its time how far this is meant (0: as far as it goes),
//! since another change may get into the log before it.

use ::raft::eraftpb::ConfChangeV2;

use super::Core;
use crate::calls::Target;
use crate::command::{Body, Command, NOBODY};
use crate::parcel::{Forwarded, Parcel};
use crate::plant::Plant;

/// Ticks after which a follower takes its leader for one that does not have changes settled.
const PATIENCE_TICKS: u64 = 20;

impl Core {
    /// Carries out a change of the members. What does not fit is refused by
    /// every member alike, and leaves nothing behind.
    pub(super) fn change(
        &mut self,
        index: u64,
        planned: &ConfChangeV2,
        command: Option<&Command>,
    ) -> Result<(), String> {
        let members = self.member.change(planned).map_err(|error| error.to_string())?;
        let change = match command.map(|command| &command.body) {
            Some(Body::Member(change)) => Some(change),
            _ => None,
        };
        let before = std::mem::replace(&mut self.meta.members, members);
        self.meta.roster.changed(change, &before, &self.meta.members);
        let joint = !self.meta.members.voters_outgoing.is_empty();
        if joint && !self.habits.plants.has(Plant::CountEarly) {
            let changed = planned.changes.iter().map(|change| change.node_id);
            self.meta.unsettled.extend(changed);
        }
        self.settling = None;
        self.changed_at = index;
        Ok(())
    }

    /// Has the group settle what was changed, if this member leads.
    pub(super) fn settle(&mut self) {
        let term = self.member.term();
        // It would not show anything as unsettled. Here it may be that nobody is left who does and could press it.
        let elder = self.habits.plants.has(Plant::Elder) && self.unsettled_ticks < 10 * PATIENCE_TICKS;
        let due = self.ends_unsettled()
            && self.settling != Some(term)
            && self.member.settled()
            && !self.member.changing()
            && !elder;
        if due {
            let command = self.command(NOBODY, 0, Body::Settled);
            self.settling = self.member.propose(vec![command]).is_ok().then_some(term);
        }
    }

    /// Has the leader settle what was changed, if it does not by itself. Call it once a tick.
    pub(super) fn press(&mut self) {
        if !self.ends_unsettled() {
            self.unsettled_ticks = 0;
            return;
        }
        self.unsettled_ticks += 1;
        if !self.unsettled_ticks.is_multiple_of(PATIENCE_TICKS) {
            return;
        }
        if let Target::There { leader, term } = self.target()
            && self.meta.applied_term == term
        {
            let data = self.command(NOBODY, self.meta.applied, Body::Settled);
            let (number, membership) = (NOBODY, false);
            let calls = vec![Forwarded {
                number,
                membership,
                data,
            }];
            self.outbox.push((leader, Parcel::Forward { term, calls }));
        }
    }

    /// Whether a change has ended of which maybe not everybody knows.
    fn ends_unsettled(&self) -> bool {
        !self.meta.unsettled.is_empty() && self.meta.members.voters_outgoing.is_empty()
    }

    /// Every change of the members up to that entry, or up to here, is known to a majority.
    pub(super) fn settled_members(&mut self, until: u64) {
        let meant = until == 0 || until >= self.changed_at;
        if meant && self.meta.members.voters_outgoing.is_empty() {
            self.meta.unsettled.clear();
        }
    }

    /// Answers who waits for changes of the members, once they are settled.
    pub(super) fn release_changes(&mut self) {
        let early = self.habits.plants.has(Plant::CountEarly);
        if early || self.meta.unsettled.is_empty() && self.meta.members.voters_outgoing.is_empty() {
            self.calls.release_changes();
        }
    }
}
