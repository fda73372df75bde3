//! What the clients of some registers asked for and were told, and which
//! effects were seen.
//!
//! Every value is written at most once, and every effect is seen sooner or
//! later, with its revision (a watch tells of it). So what became of a write
//! whose caller never heard of it again is known in the end, which keeps the
//! search for an order short.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::search::{Action, Operation, linearizable};

/// What a client asks for.
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

impl Wish {
    /// The value that it writes, if it is to write one.
    fn value(self) -> Option<u64> {
        match self {
            Wish::Put(value) | Wish::Swap(_, value) | Wish::Create(value) => Some(value),
            Wish::Delete | Wish::Get => None,
        }
    }
}

/// What a client is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done, with an effect at this revision, if it had any.
    Done(Option<u64>),
    /// It was not done, because the register was not as it had to be.
    NotDone,
    /// It was not done, for reasons that say nothing about the register.
    Refused,
    /// What is in the register.
    Read(Option<u64>),
}

struct Asked {
    key: String,
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

/// See the module. Times are anything that never goes back.
#[derive(Default)]
pub struct Registers {
    asked: Vec<Asked>,
    /// Which call writes a value.
    values: HashMap<u64, usize>,
    /// At which revision a value was written, and when that was first seen.
    written: HashMap<u64, (u64, u64)>,
    /// What was seen, by revision: the key, its value from then on, and when it was first seen.
    effects: BTreeMap<u64, (String, Option<u64>, u64)>,
    /// Deletions for which nobody need have asked.
    expiries: BTreeSet<u64>,
}

impl Registers {
    /// A client asks; returns the number of what it asked.
    pub fn ask(&mut self, key: &str, wish: Wish, now: u64) -> usize {
        let number = self.asked.len();
        if let Some(value) = wish.value() {
            self.values.insert(value, number);
        }
        self.asked.push(Asked {
            key: key.to_owned(),
            wish,
            called: now,
            returned: None,
            action: None,
            refused: false,
            revision: None,
        });
        number
    }

    /// A client is told what became of what it asked. Not to be called when nobody knows.
    ///
    /// # Errors
    /// When it is told that nothing was done, and it was.
    pub fn tell(&mut self, number: usize, told: Told, now: u64) -> Result<(), String> {
        let asked = &mut self.asked[number];
        asked.refused = matches!(told, Told::NotDone | Told::Refused);
        asked.revision = match told {
            Told::Done(revision) => revision,
            _ => None,
        };
        let done = !asked.refused;
        asked.action = match (told, asked.wish) {
            (Told::Refused, _) => None,
            (Told::Read(value), _) => Some(Action::Get(value)),
            (_, Wish::Put(value)) => Some(Action::Put(value)).filter(|_| done),
            (_, Wish::Swap(expected, value)) => Some(Action::Swap(expected, value, done)),
            (_, Wish::Create(value)) => Some(Action::Create(value, done)),
            (_, Wish::Delete | Wish::Get) => Some(Action::Delete(Some(asked.revision.is_some()))),
        };
        asked.returned = asked.action.map(|_| now);
        self.check_refused(number)
    }

    fn check_refused(&self, number: usize) -> Result<(), String> {
        let asked = &self.asked[number];
        let written = |value| Some((value, self.written.get(&value)?.0));
        match asked.wish.value().filter(|_| asked.refused).and_then(written) {
            Some((value, revision)) => Err(format!("value {value} was refused, but written at {revision}")),
            None => Ok(()),
        }
    }

    /// An effect is seen: from this revision on the register has this value, or none. Any
    /// number of times, in any order.
    ///
    /// # Errors
    /// When it is not what was seen before, or cannot have come from anybody.
    pub fn see(&mut self, revision: u64, key: &str, value: Option<u64>, now: u64) -> Result<(), String> {
        if let Some((other, before, _)) = self.effects.get(&revision) {
            return match (other.as_str(), *before) == (key, value) {
                true => Ok(()),
                false => Err(format!(
                    "revision {revision} made {key} {value:?} here, and {other} {before:?} elsewhere"
                )),
            };
        }
        self.effects.insert(revision, (key.to_owned(), value, now));
        let Some(value) = value else { return Ok(()) };
        if let Some((first, _)) = self.written.insert(value, (revision, now)) {
            return Err(format!(
                "value {value} was written twice, at {first} and {revision}"
            ));
        }
        match self.values.get(&value).map(|asked| &self.asked[*asked]) {
            Some(asked) if asked.refused => Err(format!("value {value} was refused, but written")),
            Some(asked) if asked.key != key => Err(format!("value {value} of {} is in {key}", asked.key)),
            Some(_) => Ok(()),
            None => Err(format!("nobody wrote {value}")),
        }
    }

    /// The revisions of all effects that were seen.
    pub fn seen(&self) -> impl Iterator<Item = u64> {
        self.effects.keys().copied()
    }

    /// What was seen last of each register that has a value: that, and its revision.
    pub fn latest(&self) -> BTreeMap<String, (u64, u64)> {
        let mut latest = BTreeMap::new();
        for (revision, (key, value, _)) in &self.effects {
            match value {
                Some(value) => drop(latest.insert(key.clone(), (*value, *revision))),
                None => drop(latest.remove(key)),
            }
        }
        latest
    }

    /// How many writes were acknowledged that had an effect.
    pub fn acknowledged(&self) -> usize {
        self.asked.iter().filter(|asked| asked.revision.is_some()).count()
    }

    /// How many reads were answered.
    pub fn read(&self) -> usize {
        let read = |asked: &&Asked| matches!(asked.action, Some(Action::Get(_)));
        self.asked.iter().filter(read).count()
    }

    /// What the deletion at this revision removed had a time: it may have come of itself.
    pub fn may_expire(&mut self, revision: u64) {
        self.expiries.insert(revision);
    }

    /// How many calls nobody was told of.
    pub fn untold(&self) -> usize {
        self.asked
            .iter()
            .filter(|asked| asked.action.is_none() && !asked.refused)
            .count()
    }

    /// Whether some order of everything explains every answer. All effects must have been seen by now.
    ///
    /// # Errors
    /// What does not fit.
    pub fn check(&self) -> Result<(), String> {
        for asked in &self.asked {
            if let (Some(value), Some(revision)) = (asked.wish.value(), asked.revision)
                && self.written.get(&value).map(|(at, _)| *at) != Some(revision)
            {
                let (key, seen) = (&asked.key, self.written.get(&value));
                return Err(format!(
                    "{key}: value {value} was acknowledged at {revision}, and seen at {seen:?}"
                ));
            }
        }
        let keys: BTreeSet<_> = self.asked.iter().map(|asked| asked.key.as_str()).collect();
        for key in keys {
            let asked = self.asked.iter().filter(|asked| asked.key == key);
            let mut operations: Vec<_> = asked.filter_map(|asked| self.operation(asked)).collect();
            operations.extend(self.untold_deletions(key));
            linearizable(&operations).map_err(|why| format!("{key} is not linearizable: {why}"))?;
        }
        Ok(())
    }

    /// The deletions of a key that happened without anybody being told: each is
    /// one of those whose callers never heard of them.
    fn untold_deletions(&self, key: &str) -> Vec<Operation> {
        let deletions = || {
            self.asked
                .iter()
                .filter(|asked| asked.key == key && asked.wish == Wish::Delete)
        };
        let told: BTreeSet<u64> = deletions().filter_map(|asked| asked.revision).collect();
        let called = deletions()
            .filter(|asked| asked.action.is_none() && !asked.refused)
            .map(|asked| asked.called)
            .min();
        let effects = self.effects.iter();
        let deleted = effects.filter(|(_, (of, value, _))| of == key && value.is_none());
        let untold = deleted.filter(|(revision, _)| !told.contains(revision));
        untold
            .map(|(revision, (.., seen))| {
                let called = match self.expiries.contains(revision) {
                    true => self.called_before(key, *revision),
                    false => called,
                };
                Operation {
                    // None can have done it: then it comes before everything, and fits nowhere.
                    called: called.unwrap_or(0),
                    returned: Some(if called.is_some() { *seen } else { 0 }),
                    action: Action::Delete(Some(true)),
                    hint: Some(*revision),
                }
            })
            .collect()
    }

    /// When that was asked for which a deletion removed.
    fn called_before(&self, key: &str, revision: u64) -> Option<u64> {
        let mut before = self.effects.range(..revision).rev();
        let (_, (_, value, _)) = before.find(|(_, (of, ..))| of == key)?;
        let asked = self.values.get(&(*value)?)?;
        Some(self.asked[*asked].called)
    }

    fn operation(&self, asked: &Asked) -> Option<Operation> {
        let written = asked.wish.value().and_then(|value| self.written.get(&value));
        let action = asked.action.or(match asked.wish {
            Wish::Put(value) => Some(Action::Put(value)),
            Wish::Swap(before, value) => Some(Action::Swap(before, value, true)),
            Wish::Create(value) => Some(Action::Create(value, true)),
            // Deletions that nobody was told of are taken from what was seen.
            Wish::Delete | Wish::Get => None,
        })?;
        let returned = match asked.action {
            Some(_) => asked.returned,
            // What was never seen was never done.
            None => Some(written?.1),
        };
        let effect = match action {
            Action::Swap(_, _, false) | Action::Create(_, false) => None,
            _ => written.map(|(revision, _)| *revision),
        };
        Some(Operation {
            called: asked.called,
            returned,
            action,
            hint: effect.or(asked.revision),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_was_told_of_is_taken_from_what_was_seen() {
        let mut registers = Registers::default();
        let first = registers.ask("a", Wish::Create(1), 1);
        registers.tell(first, Told::Done(Some(10)), 2).unwrap();
        registers.ask("a", Wish::Swap(1, 2), 3);
        registers.ask("a", Wish::Swap(1, 3), 3);
        registers.see(10, "a", Some(1), 4).unwrap();
        registers.see(11, "a", Some(2), 6).unwrap();
        registers.see(10, "a", Some(1), 7).unwrap();
        let read = registers.ask("a", Wish::Get, 8);
        registers.tell(read, Told::Read(Some(2)), 9).unwrap();
        assert_eq!(registers.check(), Ok(()));
        assert_eq!(
            (registers.acknowledged(), registers.read(), registers.untold()),
            (1, 1, 2)
        );
        // The one that was seen is over by then.
        let read = registers.ask("a", Wish::Get, 10);
        registers.tell(read, Told::Read(Some(1)), 11).unwrap();
        assert!(registers.check().is_err());
    }

    #[test]
    fn what_cannot_be_is_named() {
        let mut registers = Registers::default();
        let refused = registers.ask("a", Wish::Put(1), 1);
        registers.tell(refused, Told::Refused, 2).unwrap();
        assert!(registers.see(5, "a", Some(1), 3).is_err(), "it was refused");
        assert!(registers.see(6, "a", Some(9), 3).is_err(), "nobody wrote it");
        registers.ask("a", Wish::Put(2), 4);
        registers.see(7, "a", Some(2), 5).unwrap();
        assert!(
            registers.see(7, "b", Some(2), 5).is_err(),
            "elsewhere it is another"
        );
        assert!(registers.see(8, "a", Some(2), 5).is_err(), "written twice");
        let lost = registers.ask("a", Wish::Put(3), 6);
        registers.tell(lost, Told::Done(Some(9)), 7).unwrap();
        assert!(registers.check().is_err(), "it was acknowledged, and never seen");
    }

    #[test]
    fn what_has_a_time_may_go_of_itself_but_not_come_back() {
        let mut registers = Registers::default();
        let first = registers.ask("a", Wish::Put(1), 1);
        registers.tell(first, Told::Done(Some(5)), 2).unwrap();
        registers.see(5, "a", Some(1), 2).unwrap();
        registers.see(6, "a", None, 8).unwrap();
        registers.may_expire(6);
        let read = registers.ask("a", Wish::Get, 3);
        registers.tell(read, Told::Read(None), 4).unwrap();
        assert_eq!(registers.check(), Ok(()));
        let read = registers.ask("a", Wish::Get, 6);
        registers.tell(read, Told::Read(Some(1)), 7).unwrap();
        assert!(registers.check().is_err());
    }

    #[test]
    fn a_deletion_that_nobody_asked_for_fits_nowhere() {
        let mut registers = Registers::default();
        let first = registers.ask("a", Wish::Put(1), 1);
        registers.tell(first, Told::Done(Some(5)), 2).unwrap();
        registers.see(5, "a", Some(1), 2).unwrap();
        assert_eq!(registers.check(), Ok(()));
        registers.see(6, "a", None, 4).unwrap();
        assert!(registers.check().is_err());
        registers.ask("a", Wish::Delete, 3);
        assert_eq!(registers.check(), Ok(()));
    }
}
