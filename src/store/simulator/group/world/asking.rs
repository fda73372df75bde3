//! What clients hear, and what they read.

use base::Random;
use tokio::sync::oneshot;

use super::super::clients::Wish;
use super::{KEYS, Reading, Waiting, World};

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
            Waiting::Write(_, parts, outcome) => {
                let Some(answer) = told(outcome) else {
                    return Ok(false);
                };
                if let Some(answer) = answer {
                    self.stats.acknowledged += u64::from(self.clients.wrote(parts, answer, self.now)?);
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
}
