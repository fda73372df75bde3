//! The truth as clients learn it: what they asked and were told, and the events
//! that members showed.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use linear::Wish;
use linear::{Registers, Told};

use super::batches::Batches;
use crate::error::StoreError;
use crate::types::{Change, Entry, Event, Outcome};

/// An operation that was asked for: its number, and its key.
pub type Part = (usize, &'static str);

/// See the module.
#[derive(Default)]
pub struct Clients {
    registers: Registers,
    batches: Batches,
    /// All events that any member ever showed, by revision from 1.
    events: Vec<Arc<Event>>,
    current: BTreeMap<String, Arc<Entry>>,
    /// What was acknowledged. A machine may stop between telling a caller and
    /// showing the event.
    promised: Vec<Arc<Entry>>,
    /// Deletions that may have come of themselves.
    timed_out: u64,
}

impl Clients {
    /// A client asks; returns the number of what it asked.
    pub fn ask(&mut self, key: &str, wish: Wish, now: u64) -> usize {
        self.registers.ask(key, wish, now)
    }

    /// A client asks for all of these or none, the first of which writes.
    pub fn ask_all(&mut self, wishes: &[(&'static str, Wish)], now: u64) -> Vec<Part> {
        if wishes.len() > 1 {
            self.batches.ask(wishes);
        }
        let part = |(key, wish): &(&'static str, Wish)| (self.registers.ask(key, *wish, now), *key);
        wishes.iter().map(part).collect()
    }

    /// A member shows an event: the next that anybody has seen, or one that was seen before.
    pub fn see(&mut self, event: &Arc<Event>, now: u64) -> Result<(), String> {
        let revision = event.revision;
        if let Some(seen) = self.events.get(revision as usize - 1) {
            return if seen == event {
                Ok(())
            } else {
                Err(format!(
                    "event {revision} is {event:?} here and {seen:?} elsewhere"
                ))
            };
        }
        if revision != self.revision() + 1 {
            return Err(format!("event {revision} comes after {}", self.revision()));
        }
        let key = &event.entry.key;
        if event.previous.as_ref() != self.current.get(key) {
            return Err(format!("event {revision} says that something else was there"));
        }
        let written = (event.kind == Change::Put).then(|| value(&event.entry));
        self.registers.see(revision, key, written, now)?;
        match event.kind {
            Change::Put => drop(self.current.insert(key.clone(), event.entry.clone())),
            Change::Delete => drop(self.current.remove(key)),
        }
        if event.kind == Change::Delete && has_time(event.previous.as_deref()) {
            self.registers.may_expire(revision);
            self.timed_out += 1;
        }
        self.events.push(event.clone());
        let current = &self.current;
        self.batches
            .see(revision, key, written, |key| current.contains_key(key))
    }

    /// A write is answered. Returns whether it was acknowledged.
    pub fn wrote(
        &mut self,
        parts: &[Part],
        answer: Result<Vec<Outcome>, StoreError>,
        now: u64,
    ) -> Result<bool, String> {
        let told: Vec<Told> = match answer {
            Ok(outcomes) if outcomes.len() != parts.len() => {
                return Err(format!(
                    "{} operations have {} outcomes",
                    parts.len(),
                    outcomes.len()
                ));
            }
            Ok(outcomes) => outcomes
                .into_iter()
                .map(|outcome| self.promised(outcome))
                .collect(),
            Err(StoreError::Precondition { index, .. }) => refusals(parts, index),
            Err(
                StoreError::Uncertain
                | StoreError::Unwritable { uncertain: true, .. }
                | StoreError::Closed
                | StoreError::Stopped(_),
            ) => return Ok(false),
            // Nothing was done, it says: then it must never be seen.
            Err(_) => vec![Told::Refused; parts.len()],
        };
        for ((number, _), told) in parts.iter().zip(&told) {
            self.registers.tell(*number, *told, now)?;
        }
        Ok(matches!(told.first(), Some(Told::Done(_))))
    }

    /// Notes what somebody was promised.
    fn promised(&mut self, outcome: Outcome) -> Told {
        match outcome {
            Outcome::Put(entry) | Outcome::Deleted(entry) => {
                let revision = entry.revision;
                self.promised.push(entry);
                Told::Done(Some(revision))
            }
            Outcome::Unchanged => Told::Done(None),
        }
    }

    /// A read is answered.
    pub fn read(&mut self, number: usize, entry: Option<&Entry>, now: u64) -> Result<(), String> {
        self.registers.tell(number, Told::Read(entry.map(value)), now)
    }

    /// The latest revision that anybody has seen.
    pub fn revision(&self) -> u64 {
        self.events.len() as u64
    }

    /// The value of a key as the events make it.
    pub fn latest(&self, key: &str) -> Option<&Arc<Entry>> {
        self.current.get(key)
    }

    /// The entries as the events make them.
    pub fn entries(&self) -> Vec<Arc<Entry>> {
        self.current.values().cloned().collect()
    }

    /// The entries as they were at a revision.
    pub fn entries_at(&self, revision: u64) -> Vec<Arc<Entry>> {
        let mut entries = BTreeMap::new();
        for event in self.events.iter().take(revision as usize) {
            match event.kind {
                Change::Put => drop(entries.insert(&event.entry.key, event.entry.clone())),
                Change::Delete => drop(entries.remove(&event.entry.key)),
            }
        }
        entries.into_values().collect()
    }

    /// Whether what was committed together is there up to this revision, or not at all.
    pub fn is_whole(&self, revision: u64) -> bool {
        self.batches.is_whole(revision)
    }

    /// How many commits of several operations were seen.
    pub fn batches(&self) -> u64 {
        self.batches.seen
    }

    /// How many deletions of what had a time were seen.
    pub fn timed_out(&self) -> u64 {
        self.timed_out
    }

    /// Whether something is left whose time must come.
    pub fn has_timed(&self) -> bool {
        self.current.values().any(|entry| has_time(Some(entry)))
    }

    /// The next event under a prefix after a revision, up to another.
    pub fn next_event(&self, prefix: &str, after: u64, until: u64) -> Option<&Arc<Event>> {
        let events = self
            .events
            .iter()
            .skip(after as usize)
            .take_while(|event| event.revision <= until);
        events
            .into_iter()
            .find(|event| event.entry.key.starts_with(prefix))
    }

    /// Whether some order of everything explains every answer. All members must
    /// have shown all events: what they tell of a write whose caller never
    /// heard of it again keeps the search short.
    pub fn check(&self) -> Result<(), String> {
        for entry in &self.promised {
            let seen = self
                .events
                .get(entry.revision as usize - 1)
                .map(|event| &event.entry);
            if seen != Some(entry) {
                return Err(format!(
                    "acknowledged {entry:?} is not what happened, which is {seen:?}"
                ));
            }
        }
        self.registers.check()
    }
}

fn has_time(entry: Option<&Entry>) -> bool {
    entry.is_some_and(|entry| entry.expires_ms.is_some())
}

/// What is told when the operation at `index` did not fit: of the others it says nothing, and nothing of that one
/// either if those before it would have changed the same key.
fn refusals(parts: &[Part], index: usize) -> Vec<Told> {
    let alone = |nth: usize| parts[..nth].iter().all(|(_, key)| *key != parts[nth].1);
    let told = |nth| match nth == index && alone(nth) {
        true => Told::NotDone,
        false => Told::Refused,
    };
    (0..parts.len()).map(told).collect()
}

/// The value in an entry's text, which is `{"REVISION",VALUE,…}`.
pub fn value(entry: &Entry) -> u64 {
    let text = String::from_utf8_lossy(&entry.text);
    text.split(',')
        .nth(1)
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}
