//! Applying what is committed, and answering who waits for it.

use ::raft::eraftpb::Entry;

use super::Core;
use super::kept::Unwritten;
use crate::apply::{Applier, Position, Verdict, View};
use crate::command::{Body, Command, NOBODY};
use crate::error::StoreError;
use crate::plant::Plant;
use crate::raft;

/// A command, and whether it fits: why not.
type Judged = (Command, Result<(), String>);

impl Core {
    pub(super) fn position(&self) -> Position {
        Position {
            revision: self.meta.revision,
            compacted: self.meta.compacted,
        }
    }

    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<bool, StoreError> {
        let Some(last) = entries.last() else {
            return Ok(false);
        };
        (self.meta.applied, self.meta.applied_term) = (last.index, last.term);
        let position = self.position();
        self.count_applied(entries.iter().map(|entry| entry.data.len()));
        let cache = self.cache.clone();
        let mut applier = Applier::new(&*cache, position);
        let mut verdicts = vec![];
        for entry in entries {
            let Some((command, fits)) = self.prepare(entry)? else {
                continue;
            };
            let ticket = command.ticket;
            let verdict = match fits {
                Ok(()) if self.habits.witness => Verdict::Done(vec![]),
                Ok(()) => applier.apply(self.spoil(command)),
                Err(reason) => Verdict::Unfit { reason },
            };
            if ticket.origin == self.habits.origin && ticket.number != NOBODY {
                verdicts.push((ticket.number, verdict));
            }
        }
        let (events, after) = applier.finish();
        (self.meta.revision, self.meta.compacted) = (after.revision, after.compacted);
        self.write_state(Unwritten { events, verdicts })?;
        Ok(after.compacted > position.compacted)
    }

    /// Writes what was applied, shows it and answers; or keeps it, if the state cannot take it.
    pub(super) fn write_state(&mut self, applied: Unwritten) -> Result<(), StoreError> {
        let mut meta = self.meta.clone();
        if self.habits.plants.has(Plant::ApplyTwice) {
            meta.applied = meta.applied.saturating_sub(4).max(meta.installed);
        }
        match self.state.write(&applied.events, &meta) {
            Ok(()) => {}
            Err(error @ (StoreError::State { .. } | StoreError::Io { .. })) => {
                self.unwritten = Some(applied);
                self.suspend(&error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        if self.habits.plants.has(Plant::TearCommits) && applied.events.len() > 1 {
            return self.show_first(applied);
        }
        // First visible, then acknowledged: a reader who heard of a write sees it.
        self.cache.publish(&applied.events, self.position());
        self.member.applied(&self.meta);
        for (number, verdict) in applied.verdicts {
            self.answer(number, verdict);
        }
        self.release_changes();
        self.calls.fence(self.meta.applied_term);
        Ok(())
    }

    /// Shows one change alone, and the others when the state is asked again (a planted mistake).
    fn show_first(&mut self, mut applied: Unwritten) -> Result<(), StoreError> {
        let later = applied.events.split_off(1);
        let revision = applied.events.last().map_or(0, |event| event.revision);
        let position = Position {
            revision,
            ..self.position()
        };
        self.cache.publish(&applied.events, position);
        self.unwritten = Some(Unwritten {
            events: later,
            ..applied
        });
        Ok(())
    }

    /// Makes the planted mistake in a command.
    fn spoil(&self, mut command: Command) -> Command {
        if let Body::Expire(keys) = &mut command.body
            && self.habits.plants.has(Plant::ExpireWritten)
        {
            for (key, revision) in keys {
                *revision = self.cache.entry(key).map_or(*revision, |entry| entry.revision);
            }
        }
        command
    }

    /// What an entry carries, and whether it fits; what it does to the group is done.
    pub(super) fn prepare(&mut self, entry: Entry) -> Result<Option<Judged>, StoreError> {
        let index = entry.index;
        let malformed = |reason: &str| StoreError::Format {
            what: format!("log entry {index}"),
            reason: reason.to_owned(),
        };
        let change = raft::change_in(&entry).map_err(malformed)?;
        let data = match &change {
            Some(change) => change.context.clone(),
            None => entry.data,
        };
        let decoded = if data.is_empty() {
            None
        } else {
            Some(Command::decode(data.into()))
        };
        let command = decoded.transpose().map_err(|error| malformed(error.0))?;
        let mut fits = Ok(());
        if let Some(change) = change {
            fits = self.change(index, &change, command.as_ref());
        }
        let time = command.as_ref().map_or(0, |command| command.now_ms);
        match command.as_ref().map(|command| &command.body) {
            Some(Body::Announce(peer)) if self.member.knows(peer.id) => {
                self.meta.roster.announced(peer.clone())
            }
            Some(Body::Expire(_)) => self.expiring = false,
            Some(Body::Held(index)) => self.held(*index),
            Some(Body::Settled) => self.settled_members(time),
            _ => {}
        }
        Ok(command.map(|command| (command, fits)))
    }

    pub(super) fn answer(&mut self, number: u64, verdict: Verdict) {
        let current = self.meta.revision;
        let answer = match verdict {
            Verdict::Done(outcomes) => Ok(outcomes),
            Verdict::Refused { index, current } => Err(StoreError::Precondition { index, current }),
            Verdict::Future { asked } => Err(StoreError::Future { asked, current }),
            Verdict::Unfit { reason } => Err(StoreError::Membership(reason)),
        };
        self.calls.applied(number, answer);
    }
}
