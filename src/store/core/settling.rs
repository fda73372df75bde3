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

use ::raft::eraftpb::ConfChangeV2;

use super::Core;
use crate::command::{Body, Command, NOBODY};
use crate::plant::Plant;

impl Core {
    /// Carries out a change of the members. What does not fit is refused by
    /// every member alike, and leaves nothing behind.
    pub(super) fn change(&mut self, planned: &ConfChangeV2, command: Option<&Command>) -> Result<(), String> {
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
        Ok(())
    }

    /// Has the group settle what was changed, if this member leads.
    pub(super) fn settle(&mut self) {
        let term = self.member.term();
        let due = !self.meta.unsettled.is_empty()
            && self.meta.members.voters_outgoing.is_empty()
            && self.settling != Some(term)
            && self.member.settled()
            && !self.member.changing();
        if due {
            let command = self.command(NOBODY, 0, Body::Settled);
            self.settling = self.member.propose(vec![command]).is_ok().then_some(term);
        }
    }

    /// Every change of the members before this entry is known to a majority.
    pub(super) fn settled_members(&mut self) {
        if self.meta.members.voters_outgoing.is_empty() {
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
