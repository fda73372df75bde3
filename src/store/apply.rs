//! The state machine: what a command does to the state. Pure and deterministic:
//! no clock, no I/O, no chance, so that every member comes to the same result.

use std::collections::HashMap;
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
    /// Keys changed so far, with their latest version.
    changed: HashMap<String, Option<Arc<Entry>>>,
    events: Vec<Arc<Event>>,
}

impl<'a> Applier<'a> {
    /// Starts at `position`, over the entries in `view`.
    pub fn new(view: &'a dyn View, position: Position) -> Self {
        Applier {
            view,
            position,
            changed: HashMap::new(),
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
        let mut call = Call::after(self);
        let mut outcomes = Vec::with_capacity(ops.len());
        for (index, op) in ops.into_iter().enumerate() {
            match call.operation(op, now_ms) {
                Ok(outcome) => outcomes.push(outcome),
                Err(current) => return Verdict::Refused { index, current },
            }
        }
        let changes = call.changes;
        self.keep(changes);
        Verdict::Done(outcomes)
    }

    fn expire(&mut self, keys: Vec<(String, u64)>) -> Verdict {
        let mut call = Call::after(self);
        let mut outcomes = Vec::with_capacity(keys.len());
        for (key, revision) in keys {
            // A key that was written again meanwhile has a later revision and lives on.
            let gone = call.delete(key, Expect::Revision(revision));
            outcomes.push(gone.unwrap_or(Outcome::Unchanged));
        }
        let changes = call.changes;
        self.keep(changes);
        Verdict::Done(outcomes)
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
            Some(entry) => entry.clone(),
            None => self.view.entry(key),
        }
    }

    fn keep(&mut self, changes: Changes) {
        self.position.revision = changes.revision;
        self.changed.extend(changes.changed);
        self.events.extend(changes.events);
    }
}

/// What one command changes.
struct Changes {
    revision: u64,
    changed: HashMap<String, Option<Arc<Entry>>>,
    events: Vec<Arc<Event>>,
}

/// One command's changes, kept apart until it is certain that all of it holds.
struct Call<'c, 'a> {
    before: &'c Applier<'a>,
    changes: Changes,
}

impl<'c, 'a> Call<'c, 'a> {
    fn after(before: &'c Applier<'a>) -> Self {
        let changes = Changes {
            revision: before.position.revision,
            changed: HashMap::new(),
            events: vec![],
        };
        Call { before, changes }
    }

    /// The error is the entry that did not meet the precondition.
    fn operation(&mut self, op: Op, now_ms: u64) -> Result<Outcome, Option<Arc<Entry>>> {
        match op {
            Op::Put { key, record, expect } => self.put(key, record, expect, now_ms),
            Op::Delete { key, expect } => self.delete(key, expect),
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
        let revision = self.next_revision();
        let entry = Entry::written(key, record, revision, previous.as_deref(), now_ms);
        let entry = Arc::new(entry);
        self.changes
            .changed
            .insert(entry.key.clone(), Some(entry.clone()));
        self.event(Change::Put, entry.clone(), previous);
        Ok(Outcome::Put(entry))
    }

    fn delete(&mut self, key: String, expect: Expect) -> Result<Outcome, Option<Arc<Entry>>> {
        let Some(previous) = self.checked(&key, expect)? else {
            return Ok(Outcome::Unchanged);
        };
        let entry = Arc::new(previous.deleted(self.next_revision()));
        self.changes.changed.insert(key, None);
        self.event(Change::Delete, entry.clone(), Some(previous));
        Ok(Outcome::Deleted(entry))
    }

    fn checked(&self, key: &str, expect: Expect) -> Result<Option<Arc<Entry>>, Option<Arc<Entry>>> {
        let current = match self.changes.changed.get(key) {
            Some(entry) => entry.clone(),
            None => self.before.current(key),
        };
        let holds = match expect {
            Expect::Any => true,
            Expect::Absent => current.is_none(),
            Expect::Present => current.is_some(),
            Expect::Revision(revision) => current.as_ref().is_some_and(|entry| entry.revision == revision),
        };
        if holds { Ok(current) } else { Err(current) }
    }

    fn next_revision(&mut self) -> u64 {
        self.changes.revision += 1;
        self.changes.revision
    }

    fn event(&mut self, kind: Change, entry: Arc<Entry>, previous: Option<Arc<Entry>>) {
        self.changes.events.push(Arc::new(Event {
            revision: self.changes.revision,
            kind,
            entry,
            previous,
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Ticket;
    use bytes::Bytes;

    #[derive(Default)]
    struct Entries(HashMap<String, Arc<Entry>>);

    impl View for Entries {
        fn entry(&self, key: &str) -> Option<Arc<Entry>> {
            self.0.get(key).cloned()
        }
    }

    fn record(value: u32) -> Record {
        let text = Bytes::from(format!("{{\"rv\":\"\",\"v\":{value}}}"));
        Record {
            text,
            revision_at: 7,
            ..Record::default()
        }
    }

    fn put(key: &str, value: u32, expect: Expect) -> Op {
        Op::Put {
            key: key.into(),
            record: record(value),
            expect,
        }
    }

    fn delete(key: &str, expect: Expect) -> Op {
        Op::Delete {
            key: key.into(),
            expect,
        }
    }

    fn command(body: Body) -> Command {
        Command {
            ticket: Ticket { origin: 0, number: 0 },
            now_ms: 5,
            body,
        }
    }

    fn revisions(events: &[Arc<Event>]) -> Vec<u64> {
        events.iter().map(|event| event.revision).collect()
    }

    #[test]
    fn each_operation_gets_its_own_revision_and_sees_those_before() {
        let entries = Entries::default();
        let mut applier = Applier::new(
            &entries,
            Position {
                revision: 10,
                compacted: 0,
            },
        );
        let verdict = applier.apply(command(Body::Batch(vec![
            put("/a", 1, Expect::Absent),
            put("/b", 1, Expect::Any),
            put("/a", 2, Expect::Revision(11)),
            delete("/b", Expect::Present),
        ])));
        let Verdict::Done(outcomes) = verdict else {
            panic!("{verdict:?}")
        };
        assert!(matches!(&outcomes[2], Outcome::Put(entry) if entry.revision == 13 && entry.created == 11));
        assert!(matches!(&outcomes[3], Outcome::Deleted(entry) if entry.text == r#"{"rv":"14","v":1}"#));
        let (events, position) = applier.finish();
        assert_eq!(revisions(&events), [11, 12, 13, 14]);
        assert_eq!(position.revision, 14);
        assert_eq!(events[2].previous.as_ref().map(|entry| entry.revision), Some(11));
    }

    #[test]
    fn a_failed_precondition_undoes_the_whole_call_and_only_that() {
        let entries = Entries::default();
        let mut applier = Applier::new(&entries, Position::default());
        applier.apply(command(Body::Batch(vec![put("/a", 1, Expect::Any)])));
        let verdict = applier.apply(command(Body::Batch(vec![
            put("/b", 1, Expect::Absent),
            put("/a", 2, Expect::Absent),
        ])));
        let Verdict::Refused {
            index: 1,
            current: Some(current),
        } = verdict
        else {
            panic!("{verdict:?}")
        };
        assert_eq!(current.revision, 1);
        let again = applier.apply(command(Body::Batch(vec![put("/b", 3, Expect::Absent)])));
        assert!(matches!(again, Verdict::Done(_)));
        assert_eq!(revisions(&applier.finish().0), [1, 2]);
    }

    #[test]
    fn what_changes_nothing_has_no_revision() {
        let entries = Entries::default();
        let mut applier = Applier::new(&entries, Position::default());
        applier.apply(command(Body::Batch(vec![put("/a", 1, Expect::Any)])));
        let verdict = applier.apply(command(Body::Batch(vec![
            put("/a", 1, Expect::Revision(1)),
            delete("/none", Expect::Any),
        ])));
        let Verdict::Done(outcomes) = verdict else {
            panic!("{verdict:?}")
        };
        assert!(matches!(&outcomes[0], Outcome::Put(entry) if entry.revision == 1));
        assert_eq!(outcomes[1], Outcome::Unchanged);
        assert_eq!(applier.finish().1.revision, 1);
    }

    #[test]
    fn expiry_spares_what_was_written_again() {
        let entries = Entries::default();
        let mut applier = Applier::new(&entries, Position::default());
        applier.apply(command(Body::Batch(vec![
            put("/a", 1, Expect::Any),
            put("/b", 1, Expect::Any),
        ])));
        applier.apply(command(Body::Batch(vec![put("/a", 2, Expect::Any)])));
        applier.apply(command(Body::Expire(vec![
            ("/a".into(), 1),
            ("/b".into(), 2),
            ("/c".into(), 9),
        ])));
        let (events, position) = applier.finish();
        assert_eq!(position.revision, 4);
        assert_eq!(events[3].entry.key, "/b");
    }

    #[test]
    fn compaction_never_goes_back_nor_ahead() {
        let entries = Entries::default();
        let mut applier = Applier::new(
            &entries,
            Position {
                revision: 9,
                compacted: 5,
            },
        );
        assert_eq!(applier.apply(command(Body::Compact(3))), Verdict::Done(vec![]));
        assert_eq!(
            applier.apply(command(Body::Compact(10))),
            Verdict::Future { asked: 10 }
        );
        assert_eq!(
            applier.finish().1,
            Position {
                revision: 9,
                compacted: 5
            }
        );
    }
}
