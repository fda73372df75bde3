//! What clients ask, and what they hear and see.

use base::Random;
use tokio::sync::oneshot;

use super::super::clients::{Wish, value};
use super::{Follower, KEYS, PREFIXES, Reading, Waiting, World, text};
use crate::command::Body;
use crate::error::StoreError;
use crate::types::{Expect, Op, Record};
use crate::watch::Watch;

/// So many steps after a change of the members the loss of a machine is worst, if ever.
const WORST: u64 = 12;

/// What somebody was told: nothing yet, nothing ever, or this.
fn told<T>(answer: &mut oneshot::Receiver<T>) -> Option<Option<T>> {
    match answer.try_recv() {
        Ok(answer) => Some(Some(answer)),
        Err(oneshot::error::TryRecvError::Closed) => Some(None),
        Err(oneshot::error::TryRecvError::Empty) => None,
    }
}

impl World {
    /// Hears answers.
    pub(super) fn hear(&mut self) -> Result<(), String> {
        let mut waiting = std::mem::take(&mut self.waiting);
        let mut heard = Ok(());
        waiting.retain_mut(|one| match heard.is_ok().then(|| self.hear_one(one)) {
            Some(Ok(over)) => !over,
            Some(Err(error)) => {
                heard = Err(error);
                true
            }
            None => true,
        });
        self.waiting = waiting;
        heard?;
        if self.now < self.promised && self.witnessed && self.random.below(3) == 0 {
            self.lose_one();
        }
        if let Some(leader) = self.leader() {
            let term = self.leads(leader).term;
            self.stats.leaders += u64::from(term > self.term);
            self.term = self.term.max(term);
        }
        Ok(())
    }

    /// Hears what somebody waits for, if it is there. Returns whether that is over.
    fn hear_one(&mut self, waiting: &mut Waiting) -> Result<bool, String> {
        match waiting {
            Waiting::Write(_, number, outcome) => {
                let Some(answer) = told(outcome) else {
                    return Ok(false);
                };
                if let Some(answer) = answer {
                    self.stats.acknowledged += u64::from(self.clients.wrote(*number, answer, self.now)?);
                }
            }
            Waiting::Read(reading, cleared) => {
                let Some(answer) = told(cleared) else {
                    return Ok(false);
                };
                if let Some(Ok(())) = answer {
                    self.read_now(reading)?;
                }
            }
            Waiting::Change(outcome) => {
                let Some(answer) = told(outcome) else {
                    return Ok(false);
                };
                let done = answer.is_some_and(|answer| answer.is_ok());
                self.stats.changes += u64::from(done);
                if done {
                    self.promised = self.now + WORST;
                }
            }
        }
        Ok(true)
    }

    fn read_now(&mut self, reading: &Reading) -> Result<(), String> {
        use crate::apply::View;
        if let Some(process) = &self.machines[reading.at].process
            && process.origin == reading.origin
        {
            let entry = process.cache.entry(reading.key);
            self.clients.read(reading.number, entry.as_deref(), self.now)?;
            self.stats.reads += 1;
        }
        Ok(())
    }

    pub(super) fn write(&mut self) {
        if let Some(at) = self.serving() {
            self.write_at(at);
        }
    }

    pub(super) fn write_at(&mut self, at: usize) {
        let key = KEYS[self.random.below(3) as usize];
        self.values += 1;
        let latest = self.clients.latest(key).cloned();
        let (wish, expect) = match (self.random.below(8), &latest) {
            (0, _) => (Wish::Delete, Expect::Any),
            (1, _) => (Wish::Create(self.values), Expect::Absent),
            (2..5, Some(entry)) => {
                let wish = Wish::Swap(value(entry), self.values);
                (wish, Expect::Revision(entry.revision))
            }
            _ => (Wish::Put(self.values), Expect::Any),
        };
        let number = self.clients.ask(key, wish, self.now);
        let op = match wish {
            Wish::Delete => Op::Delete {
                key: key.into(),
                expect,
            },
            _ => self.put(key, expect),
        };
        let now_ms = self.now * 20 + self.machines[at].skew_ms;
        if let Some(process) = &mut self.machines[at].process {
            let outcome = process.call(Body::Batch(vec![op]), now_ms);
            self.waiting.push(Waiting::Write(at, number, outcome));
        }
    }

    pub(super) fn put(&self, key: &str, expect: Expect) -> Op {
        let filler = "x".repeat(self.random.below(200) as usize);
        let record = Record {
            text: format!("{{\"\",{},{filler}}}", self.values).into(),
            revision_at: 2,
            ..Record::default()
        };
        let key = key.into();
        Op::Put { key, record, expect }
    }

    pub(super) fn read(&mut self) {
        let Some(at) = self.serving() else { return };
        let key = KEYS[self.random.below(3) as usize];
        let number = self.clients.ask(key, Wish::Get, self.now);
        let (clearance, cleared) = oneshot::channel();
        if let Some(process) = &mut self.machines[at].process {
            process.core.read(clearance);
            let origin = process.origin;
            let reading = Reading {
                at,
                origin,
                number,
                key,
            };
            self.waiting.push(Waiting::Read(reading, cleared));
        }
    }

    /// Opens, polls and moves watches.
    pub(super) fn follow(&mut self) -> Result<(), String> {
        let Some(at) = self.serving() else { return Ok(()) };
        for follower in 0..self.followers.len() {
            self.poll(follower, at)?;
        }
        if self.followers.len() < 4
            && let Some(process) = &self.machines[at].process
        {
            let (oldest, latest) = (
                process.cache.position().compacted,
                process.cache.position().revision,
            );
            let last = oldest + self.random.below(latest - oldest + 3);
            let prefix = PREFIXES[self.random.below(3) as usize];
            let watch = Watch::new(process.cache.clone(), process.old.clone(), prefix, last).map_err(text)?;
            self.followers.push(Follower {
                at: Some(at),
                watch,
                prefix,
                last,
            });
        }
        Ok(())
    }

    pub(super) fn poll(&mut self, which: usize, elsewhere: usize) -> Result<(), String> {
        let moved = self.random.below(6) == 0 || self.followers[which].at.is_none();
        let follower = &mut self.followers[which];
        if moved && let Some(process) = &self.machines[elsewhere].process {
            match Watch::new(
                process.cache.clone(),
                process.old.clone(),
                follower.prefix,
                follower.last,
            ) {
                Ok(watch) => (follower.watch, follower.at) = (watch, Some(elsewhere)),
                Err(StoreError::Compacted { oldest }) => {
                    follower.last = oldest;
                    return Ok(());
                }
                Err(error) => return Err(text(error)),
            }
        }
        for _ in 0..self.random.below(20) {
            match follower.watch.try_next() {
                Some(Ok(event)) => {
                    let expected = self
                        .clients
                        .next_event(follower.prefix, follower.last, event.revision);
                    if expected != Some(&event) {
                        return Err(format!(
                            "a watch got event {} after {}",
                            event.revision, follower.last
                        ));
                    }
                    follower.last = event.revision;
                    self.stats.followed += 1;
                }
                Some(Err(StoreError::Compacted { oldest })) => {
                    (follower.last, follower.at) = (follower.last.max(oldest), None);
                    break;
                }
                Some(Err(error)) => return Err(format!("a watch failed: {error}")),
                None => {
                    let until = follower.watch.progress();
                    return match self.clients.next_event(follower.prefix, follower.last, until) {
                        None => Ok(()),
                        Some(missed) => {
                            Err(format!("a watch missed event {} before {until}", missed.revision))
                        }
                    };
                }
            }
        }
        Ok(())
    }

    pub(super) fn follow_all(&mut self) -> Result<(), String> {
        for _ in 0..40 {
            self.follow()?;
        }
        Ok(())
    }
}
