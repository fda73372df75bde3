//! The truth as clients learn it: what they asked and were told, and the events
//! that members showed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::linear::{Action, Operation, linearizable};
use crate::error::StoreError;
use crate::types::{Entry, Event, Outcome};

/// What a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Writes this.
    Put(u64),
    /// Writes the second if the first is there.
    Swap(u64, u64),
    /// Writes if nothing is there.
    Create(u64),
    /// Removes.
    Delete,
    /// Reads.
    Get,
}

struct Asked {
    key: &'static str,
    wish: Wish,
    called: u64,
    returned: Option<u64>,
    /// None while nobody knows.
    action: Option<Action>,
    /// Certainly not done.
    refused: bool,
    /// The revision of its effect.
    revision: Option<u64>,
}

/// See the module.
#[derive(Default)]
pub struct Clients {
    asked: Vec<Asked>,
    /// Which call writes a value.
    values: BTreeMap<u64, usize>,
    /// All events that any member ever showed, by revision from 1.
    events: Vec<Arc<Event>>,
    /// When each was first seen.
    seen: Vec<u64>,
    /// At which revision a value was written, and when that was first seen.
    written: BTreeMap<u64, (u64, u64)>,
    current: BTreeMap<String, Arc<Entry>>,
    /// What was acknowledged. A machine may stop between telling a caller and
    /// showing the event.
    promised: Vec<Arc<Entry>>,
}

impl Clients {
    /// A client asks; returns the number of what it asked.
    pub fn ask(&mut self, key: &'static str, wish: Wish, now: u64) -> usize {
        let number = self.asked.len();
        if let Wish::Put(value) | Wish::Swap(_, value) | Wish::Create(value) = wish {
            self.values.insert(value, number);
        }
        self.asked.push(Asked {
            key,
            wish,
            called: now,
            returned: None,
            action: None,
            refused: false,
            revision: None,
        });
        number
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
        if event.kind == crate::types::Change::Put {
            self.see_value(event, now)?;
            self.current.insert(key.clone(), event.entry.clone());
        } else {
            self.current.remove(key);
        }
        self.events.push(event.clone());
        self.seen.push(now);
        Ok(())
    }

    fn see_value(&mut self, event: &Event, now: u64) -> Result<(), String> {
        let value = value(&event.entry);
        if let Some((first, _)) = self.written.insert(value, (event.revision, now)) {
            return Err(format!(
                "value {value} was written twice, at {first} and {}",
                event.revision
            ));
        }
        match self.values.get(&value).map(|asked| &self.asked[*asked]) {
            Some(asked) if asked.refused => Err(format!("value {value} was refused, but written")),
            Some(_) => Ok(()),
            None => Err(format!("nobody wrote {value}")),
        }
    }

    /// A write is answered. Returns whether it was acknowledged.
    pub fn wrote(
        &mut self,
        number: usize,
        answer: Result<Vec<Outcome>, StoreError>,
        now: u64,
    ) -> Result<bool, String> {
        let asked = &mut self.asked[number];
        let done = match answer {
            Ok(outcomes) => {
                if let Some(Outcome::Put(entry) | Outcome::Deleted(entry)) = outcomes.first() {
                    asked.revision = Some(entry.revision);
                    self.promised.push(entry.clone());
                }
                true
            }
            Err(StoreError::Precondition { .. }) => false,
            Err(
                StoreError::Uncertain
                | StoreError::Unwritable { uncertain: true, .. }
                | StoreError::Closed
                | StoreError::Stopped(_),
            ) => return Ok(false),
            // Nothing was done, it says: then it must never be seen.
            Err(_) => {
                asked.refused = true;
                return self.check_refused(number).map(|()| false);
            }
        };
        asked.returned = Some(now);
        asked.action = Some(match asked.wish {
            Wish::Put(value) => Action::Put(value),
            Wish::Swap(expected, value) => Action::Swap(expected, value, done),
            Wish::Create(value) => Action::Create(value, done),
            Wish::Delete | Wish::Get => Action::Delete(Some(asked.revision.is_some())),
        });
        asked.refused = !done;
        self.check_refused(number).map(|()| done)
    }

    fn check_refused(&self, number: usize) -> Result<(), String> {
        let asked = &self.asked[number];
        let value = match asked.wish {
            Wish::Put(value) | Wish::Swap(_, value) | Wish::Create(value) if asked.refused => value,
            _ => return Ok(()),
        };
        match self.written.get(&value) {
            Some((revision, _)) => Err(format!("value {value} was refused, but written at {revision}")),
            None => Ok(()),
        }
    }

    /// A read is answered.
    pub fn read(&mut self, number: usize, entry: Option<&Entry>, now: u64) {
        let asked = &mut self.asked[number];
        asked.returned = Some(now);
        asked.action = Some(Action::Get(entry.map(value)));
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
        let mut keys: Vec<_> = self.asked.iter().map(|asked| asked.key).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let asked = self.asked.iter().filter(|asked| asked.key == key);
            let mut operations: Vec<_> = asked.filter_map(|asked| self.operation(asked)).collect();
            operations.extend(self.untold_deletions(key));
            linearizable(&operations).map_err(|why| format!("{key} is not linearizable: {why}"))?;
        }
        Ok(())
    }
}

impl Clients {
    /// The deletions of a key that happened without anybody being told: each is
    /// one of those whose callers never heard of them.
    fn untold_deletions(&self, key: &str) -> Vec<Operation> {
        let deletions = || {
            self.asked
                .iter()
                .filter(|a| a.key == key && a.wish == Wish::Delete)
        };
        let told: Vec<u64> = deletions().filter_map(|asked| asked.revision).collect();
        let called = deletions()
            .filter(|a| a.action.is_none() && !a.refused)
            .map(|a| a.called)
            .min();
        let untold = |(event, seen): (&Arc<Event>, &u64)| {
            let ours = event.kind == crate::types::Change::Delete && event.entry.key == key;
            (ours && !told.contains(&event.revision)).then_some(Operation {
                // None can have done it: then it comes before everything, and fits nowhere.
                called: called.unwrap_or(0),
                returned: Some(if called.is_some() { *seen } else { 0 }),
                action: Action::Delete(Some(true)),
                hint: Some(event.revision),
            })
        };
        self.events.iter().zip(&self.seen).filter_map(untold).collect()
    }

    fn operation(&self, asked: &Asked) -> Option<Operation> {
        let (action, returned) = match (asked.action, asked.wish) {
            (Some(action), _) => (action, asked.returned),
            (None, Wish::Put(value)) => (Action::Put(value), Some(self.written.get(&value)?.1)),
            (None, Wish::Swap(before, value)) => (
                Action::Swap(before, value, true),
                Some(self.written.get(&value)?.1),
            ),
            (None, Wish::Create(value)) => (Action::Create(value, true), Some(self.written.get(&value)?.1)),
            // Deletions that nobody was told of are taken from the events.
            (None, Wish::Delete | Wish::Get) => return None,
        };
        Some(Operation {
            called: asked.called,
            returned,
            action,
            hint: match action {
                Action::Put(value) | Action::Swap(_, value, true) | Action::Create(value, true) => {
                    self.written.get(&value).map(|(revision, _)| *revision)
                }
                _ => asked.revision,
            },
        })
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
