//! The truth as clients learn it: what was asked, what was answered, and the
//! events that the store showed. Everything that contradicts it is an error.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::error::StoreError;
use crate::types::{Change, Entry, Event, Expect, Op, Outcome};

/// What a client knows about one of its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// Under way, or its outcome will never be known.
    Open,
    /// Done.
    Done,
    /// Not done.
    Refused,
}

struct Asked {
    ops: Vec<Op>,
    known: Known,
    /// Events of this call that were seen.
    seen: usize,
}

/// See the module.
#[derive(Default)]
pub struct History {
    calls: Vec<Asked>,
    /// By the text that an operation writes, which is unique: call and operation.
    texts: HashMap<String, (usize, usize)>,
    events: BTreeMap<u64, Arc<Event>>,
    current: BTreeMap<String, Arc<Entry>>,
}

impl History {
    /// A call is about to be made; returns its number.
    pub fn ask(&mut self, ops: &[Op]) -> usize {
        let call = self.calls.len();
        for (index, op) in ops.iter().enumerate() {
            if let Op::Put { record, .. } = op {
                let text = String::from_utf8_lossy(&record.text).replace("\"\"", "");
                self.texts.insert(text, (call, index));
            }
        }
        self.calls.push(Asked {
            ops: ops.to_vec(),
            known: Known::Open,
            seen: 0,
        });
        call
    }

    /// The store has shown its next event.
    pub fn see(&mut self, event: Arc<Event>) -> Result<(), String> {
        let expected = self.revision() + 1;
        if event.revision != expected {
            return Err(format!("event {} comes instead of {expected}", event.revision));
        }
        let entry = &event.entry;
        let before = self.current.get(&entry.key).cloned();
        if event.previous != before {
            return Err(format!(
                "event {expected} says {:?} was before, not {before:?}",
                event.previous
            ));
        }
        if !entry.text.starts_with(format!("{{\"{expected}\"").as_bytes()) {
            return Err(format!("event {expected} has {:?}", entry.text));
        }
        match event.kind {
            Change::Put => {
                self.see_put(&event, before.as_deref())?;
                self.current.insert(entry.key.clone(), entry.clone());
            }
            Change::Delete => drop(self.current.remove(&entry.key)),
        }
        self.events.insert(event.revision, event);
        Ok(())
    }

    fn see_put(&mut self, event: &Event, before: Option<&Entry>) -> Result<(), String> {
        let text = String::from_utf8_lossy(&event.entry.text);
        let text = text.replacen(&format!("\"{}\"", event.revision), "", 1);
        let Some((call, index)) = self.texts.get(&text).copied() else {
            return Err(format!("nobody wrote {text}"));
        };
        let asked = &mut self.calls[call];
        asked.seen += 1;
        if asked.known == Known::Refused {
            return Err(format!("call {call} was refused but done"));
        }
        let holds = match &asked.ops[index] {
            Op::Put {
                expect: Expect::Absent,
                ..
            } => before.is_none(),
            Op::Put {
                expect: Expect::Present,
                ..
            } => before.is_some(),
            Op::Put {
                expect: Expect::Revision(revision),
                ..
            } => before.is_some_and(|entry| entry.revision == *revision),
            _ => true,
        };
        if holds {
            Ok(())
        } else {
            Err(format!("operation {index} of call {call} should have failed"))
        }
    }

    /// A call was answered. Its events must have been seen already.
    pub fn answered(
        &mut self,
        call: usize,
        answer: Result<&[Outcome], &StoreError>,
    ) -> Result<Known, String> {
        let outcomes = match answer {
            Ok(outcomes) => outcomes,
            Err(StoreError::Precondition { .. } | StoreError::Unwritable { uncertain: false, .. }) => {
                self.calls[call].known = Known::Refused;
                return self.check_call(call).map(|()| Known::Refused);
            }
            Err(_) => return Ok(Known::Open),
        };
        self.calls[call].known = Known::Done;
        for outcome in outcomes {
            let (Outcome::Put(entry) | Outcome::Deleted(entry)) = outcome else {
                continue;
            };
            if self.events.get(&entry.revision).map(|event| &event.entry) != Some(entry) {
                return Err(format!("acknowledged {entry:?} is not what watchers saw"));
            }
        }
        self.check_call(call).map(|()| Known::Done)
    }

    fn check_call(&self, call: usize) -> Result<(), String> {
        let asked = &self.calls[call];
        let puts = asked.ops.iter().filter(|op| matches!(op, Op::Put { .. })).count();
        let fits = match asked.known {
            Known::Done => asked.seen == puts,
            Known::Refused => asked.seen == 0,
            Known::Open => asked.seen == 0 || asked.seen == puts,
        };
        if fits {
            Ok(())
        } else {
            Err(format!(
                "{} of {puts} writes of call {call} are there",
                asked.seen
            ))
        }
    }

    /// Every call is there as a whole or not at all.
    pub fn check_calls(&self) -> Result<(), String> {
        (0..self.calls.len()).try_for_each(|call| self.check_call(call))
    }

    /// The latest revision seen.
    pub fn revision(&self) -> u64 {
        self.events.keys().next_back().copied().unwrap_or(0)
    }

    /// The entries as the events make them.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.current.values().cloned().collect()
    }

    /// The entry of a key as the events make it.
    pub fn entry(&self, key: &str) -> Option<&Arc<Entry>> {
        self.current.get(key)
    }

    /// The entries as they were at a revision.
    pub fn entries_at(&self, revision: u64) -> Vec<Arc<Entry>> {
        let mut entries = BTreeMap::new();
        for event in self.events.range(..=revision).map(|(_, event)| event) {
            match event.kind {
                Change::Put => drop(entries.insert(event.entry.key.clone(), event.entry.clone())),
                Change::Delete => drop(entries.remove(&event.entry.key)),
            }
        }
        entries.into_values().collect()
    }

    /// The events under a prefix after a revision, up to another.
    pub fn events(&self, prefix: &str, after: u64, until: u64) -> Vec<Arc<Event>> {
        let range = self
            .events
            .range(after + 1..=until.max(after + 1))
            .map(|(_, event)| event);
        let wanted = range.filter(|e| e.revision <= until && e.entry.key.starts_with(prefix));
        wanted.cloned().collect()
    }
}
