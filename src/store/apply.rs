//! The state machine: what a command does to the state. Pure and deterministic:
//! no clock, no I/O, no chance, so that every member comes to the same result.

use std::borrow::Borrow;
use std::collections::HashSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::command::{Body, Command};
use crate::types::{Change, Entry, Event, Expect, Op, Outcome, Record};

/// Where the state stands, beside the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// The latest revision.
    pub revision: u64,
    /// History before this revision is gone.
    pub compacted: u64,
}

/// Read access to the entries as they were before the batch.
pub trait View {
    /// The latest version of a key.
    fn entry(&self, key: &str) -> Option<Arc<Entry>>;
}

/// What the proposer of a command is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Done; one outcome per operation.
    Done(Vec<Outcome>),
    /// The precondition of operation `index` failed; nothing was done.
    Refused {
        /// Which operation.
        index: usize,
        /// The key's entry at that moment.
        current: Option<Arc<Entry>>,
    },
    /// The change does not fit the members as they are; nothing was done.
    Unfit {
        /// Raft's reason.
        reason: String,
    },
    /// The compaction asks for a revision that has not happened yet.
    Future {
        /// The revision asked for.
        asked: u64,
    },
}

/// Applies committed commands one after the other, each seeing the effects of
/// those before it, and collects the changes for one write to the state.
pub struct Applier<'a> {
    view: &'a dyn View,
    position: Position,
    /// The latest change of each key that was changed.
    changed: HashSet<Latest>,
    events: Vec<Arc<Event>>,
}

/// A change, found by its key.
struct Latest(Arc<Event>);

impl Borrow<str> for Latest {
    fn borrow(&self) -> &str {
        &self.0.entry.key
    }
}

impl Hash for Latest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.entry.key.hash(state);
    }
}

impl PartialEq for Latest {
    fn eq(&self, other: &Latest) -> bool {
        self.0.entry.key == other.0.entry.key
    }
}

impl Eq for Latest {}

impl<'a> Applier<'a> {
    /// Starts at `position`, over the entries in `view`.
    pub fn new(view: &'a dyn View, position: Position) -> Self {
        Applier {
            view,
            position,
            changed: HashSet::new(),
            events: vec![],
        }
    }

    /// Applies one command.
    pub fn apply(&mut self, command: Command) -> Verdict {
        match command.body {
            Body::Batch(ops) => self.batch(ops, command.now_ms),
            Body::Expire(keys) => self.expire(keys),
            Body::Compact(revision) => self.compact(revision),
            // What changes the group touches no entry: the core sees to it.
            Body::Announce(_) | Body::Member(_) | Body::Held(_) | Body::Settled => Verdict::Done(vec![]),
        }
    }

    /// The changes in revision order, and where the state stands after them.
    pub fn finish(self) -> (Vec<Arc<Event>>, Position) {
        (self.events, self.position)
    }

    fn batch(&mut self, ops: Vec<Op>, now_ms: u64) -> Verdict {
        let mut call = Call::begin(self);
        let mut outcomes = Vec::with_capacity(ops.len());
        for (index, op) in ops.into_iter().enumerate() {
            match call.operation(op, now_ms) {
                Ok(outcome) => outcomes.push(outcome),
                Err(current) => {
                    call.undo();
                    return Verdict::Refused { index, current };
                }
            }
        }
        Verdict::Done(outcomes)
    }

    fn expire(&mut self, keys: Vec<(String, u64)>) -> Verdict {
        let mut call = Call::begin(self);
        // A key that was written again meanwhile has a later revision and lives on.
        let gone = keys
            .into_iter()
            .map(|(key, revision)| call.delete(&key, Expect::Revision(revision)));
        Verdict::Done(gone.map(|gone| gone.unwrap_or(Outcome::Unchanged)).collect())
    }

    fn compact(&mut self, revision: u64) -> Verdict {
        if revision > self.position.revision {
            return Verdict::Future { asked: revision };
        }
        self.position.compacted = self.position.compacted.max(revision);
        Verdict::Done(vec![])
    }

    fn current(&self, key: &str) -> Option<Arc<Entry>> {
        match self.changed.get(key) {
            Some(Latest(event)) => (event.kind == Change::Put).then(|| event.entry.clone()),
            None => self.view.entry(key),
        }
    }

    fn next_revision(&mut self) -> u64 {
        self.position.revision += 1;
        self.position.revision
    }
}

/// One command, which can be undone until it is certain that all of it holds.
struct Call<'c, 'a> {
    applier: &'c mut Applier<'a>,
    /// For each of its changes, the one of the same key before it.
    before: Vec<Option<Latest>>,
}

impl<'c, 'a> Call<'c, 'a> {
    fn begin(applier: &'c mut Applier<'a>) -> Self {
        let before = vec![];
        Call { applier, before }
    }

    fn undo(self) {
        let Applier {
            position,
            changed,
            events,
            ..
        } = self.applier;
        // The latest first, so that each key is left as it was.
        for before in self.before.into_iter().rev() {
            let Some(event) = events.pop() else { return };
            position.revision -= 1;
            match before {
                Some(before) => drop(changed.replace(before)),
                None => drop(changed.take(event.entry.key.as_str())),
            }
        }
    }

    /// The error is the entry that did not meet the precondition.
    fn operation(&mut self, op: Op, now_ms: u64) -> Result<Outcome, Option<Arc<Entry>>> {
        match op {
            Op::Put { key, record, expect } => self.put(key, record, expect, now_ms),
            Op::Delete { key, expect } => self.delete(&key, expect),
        }
    }

    fn put(
        &mut self,
        key: String,
        record: Record,
        expect: Expect,
        now_ms: u64,
    ) -> Result<Outcome, Option<Arc<Entry>>> {
        let previous = self.checked(&key, expect)?;
        if let Some(same) = previous.as_ref().filter(|entry| entry.same_as(&record)) {
            return Ok(Outcome::Put(same.clone()));
        }
        let revision = self.applier.next_revision();
        let entry = Arc::new(Entry::written(key, record, revision, previous.as_deref(), now_ms));
        self.event(Change::Put, entry.clone(), previous);
        Ok(Outcome::Put(entry))
    }

    fn delete(&mut self, key: &str, expect: Expect) -> Result<Outcome, Option<Arc<Entry>>> {
        let Some(previous) = self.checked(key, expect)? else {
            return Ok(Outcome::Unchanged);
        };
        let entry = Arc::new(previous.deleted(self.applier.next_revision()));
        self.event(Change::Delete, entry.clone(), Some(previous));
        Ok(Outcome::Deleted(entry))
    }

    fn checked(&self, key: &str, expect: Expect) -> Result<Option<Arc<Entry>>, Option<Arc<Entry>>> {
        let current = self.applier.current(key);
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Present => current.is_some(),
            Expect::Revision(revision) => current.as_ref().is_some_and(|entry| entry.revision == revision),
        };
        if holds { Ok(current) } else { Err(current) }
    }

    fn event(&mut self, kind: Change, entry: Arc<Entry>, previous: Option<Arc<Entry>>) {
        let event = Arc::new(Event {
            revision: self.applier.position.revision,
            kind,
            entry,
            previous,
        });
        self.before
            .push(self.applier.changed.replace(Latest(event.clone())));
        self.applier.events.push(event);
    }
}

#[cfg(test)]
mod tests;
