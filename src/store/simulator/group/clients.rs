//! The truth as clients learn it: what they asked and were told, and the events
//! that members showed.

use std::collections::BTreeMap;
use std::sync::Arc;

pub use linear::Wish;
use linear::{Registers, Told};

use crate::error::StoreError;
use crate::types::{Change, Entry, Event, Outcome};

/// See the module.
#[derive(Default)]
pub struct Clients {
    registers: Registers,
    /// All events that any member ever showed, by revision from 1.
    events: Vec<Arc<Event>>,
    current: BTreeMap<String, Arc<Entry>>,
    /// What was acknowledged. A machine may stop between telling a caller and
    /// showing the event.
    promised: Vec<Arc<Entry>>,
}

impl Clients {
    /// A client asks; returns the number of what it asked.
    pub fn ask(&mut self, key: &str, wish: Wish, now: u64) -> usize {
        self.registers.ask(key, wish, now)
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
        self.events.push(event.clone());
        Ok(())
    }

    /// A write is answered. Returns whether it was acknowledged.
    pub fn wrote(
        &mut self,
        number: usize,
        answer: Result<Vec<Outcome>, StoreError>,
        now: u64,
    ) -> Result<bool, String> {
        let told = match answer {
            Ok(outcomes) => {
                let effect = match outcomes.first() {
                    Some(Outcome::Put(entry) | Outcome::Deleted(entry)) => Some(entry.clone()),
                    _ => None,
                };
                self.promised.extend(effect.clone());
                Told::Done(effect.map(|entry| entry.revision))
            }
            Err(StoreError::Precondition { .. }) => Told::NotDone,
            Err(
                StoreError::Uncertain
                | StoreError::Unwritable { uncertain: true, .. }
                | StoreError::Closed
                | StoreError::Stopped(_),
            ) => return Ok(false),
            // Nothing was done, it says: then it must never be seen.
            Err(_) => Told::Refused,
        };
        self.registers.tell(number, told, now)?;
        Ok(matches!(told, Told::Done(_)))
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

/// The value in an entry's text, which is `{"REVISION",VALUE,…}`.
pub fn value(entry: &Entry) -> u64 {
    let text = String::from_utf8_lossy(&entry.text);
    text.split(',')
        .nth(1)
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}
