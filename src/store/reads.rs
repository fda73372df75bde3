//! Linearizable reads: collected into batches, each of which asks Raft for the
//! index from which its reads are safe, and waits until that is applied.
//!
//! A batch is closed before its question is asked, so any answer to the
//! question will do, however late; and an answer to a later batch too.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::calls::no_leader;
use crate::error::StoreError;

/// Ticks between two times of asking the same question, which Raft drops silently.
const REPEAT_TICKS: u64 = 2;
/// Ticks after which a reader is told that there is no leader.
const PATIENCE_TICKS: u64 = 100;

/// Questions on their way at once; reads that come meanwhile share the next one.
const ASKED_MAX: usize = 4;

/// Tells a reader that it may read the cache now.
pub type Clearance = oneshot::Sender<Result<(), StoreError>>;

/// All reads on their way.
#[derive(Default)]
pub struct Reads {
    /// Not yet asked for.
    fresh: Vec<Clearance>,
    /// Asked for, by batch number.
    asked: BTreeMap<u64, Batch>,
    /// Safe once this index is applied.
    known: BTreeMap<u64, Vec<Clearance>>,
    batches: u64,
    now: u64,
}

struct Batch {
    reads: Vec<Clearance>,
    since: u64,
}

impl Reads {
    /// Adds a read to the next batch.
    pub fn add(&mut self, read: Clearance) {
        self.fresh.push(read);
    }

    /// Closes the batch; its number is to be asked about, if it is not empty
    /// and not too many are under way.
    pub fn next_batch(&mut self) -> Option<u64> {
        if self.fresh.is_empty() || self.asked.len() >= ASKED_MAX {
            return None;
        }
        self.batches += 1;
        let reads = std::mem::take(&mut self.fresh);
        self.asked.insert(
            self.batches,
            Batch {
                reads,
                since: self.now,
            },
        );
        Some(self.batches)
    }

    /// Lets a tick pass. Returns the batch to ask about once more, if any: the
    /// latest, whose answer will do for all.
    pub fn tick(&mut self) -> Option<u64> {
        self.now += 1;
        let late = self.now.saturating_sub(PATIENCE_TICKS);
        let vain = self.asked.extract_if(.., |_, batch| batch.since < late);
        for read in vain.flat_map(|(_, batch)| batch.reads) {
            let _ = read.send(Err(no_leader()));
        }
        for batch in self.asked.values_mut() {
            batch.reads.retain(|read| !read.is_closed());
        }
        self.asked.retain(|_, batch| !batch.reads.is_empty());
        let (number, batch) = self.asked.last_key_value()?;
        let age = self.now - batch.since;
        (age > 0 && age.is_multiple_of(REPEAT_TICKS)).then_some(*number)
    }

    /// The batch asked about last, whose answer will do for all.
    pub fn latest_asked(&self) -> Option<u64> {
        self.asked.last_key_value().map(|(number, _)| *number)
    }

    /// Batch `number`, and so all before it, is safe at `index`.
    pub fn answered(&mut self, number: u64, index: u64) {
        let later = self.asked.split_off(&(number + 1));
        let answered = std::mem::replace(&mut self.asked, later);
        let reads = answered.into_values().flat_map(|batch| batch.reads);
        self.known.entry(index).or_default().extend(reads);
    }

    /// Lets the reads go that are safe at the applied index.
    pub fn release(&mut self, applied: u64) {
        let later = self.known.split_off(&(applied + 1));
        for read in std::mem::replace(&mut self.known, later).into_values().flatten() {
            let _ = read.send(Ok(()));
        }
    }

    /// Refuses all reads.
    pub fn refuse(&mut self, why: impl Fn() -> StoreError) {
        let asked = std::mem::take(&mut self.asked)
            .into_values()
            .flat_map(|batch| batch.reads);
        let known = std::mem::take(&mut self.known).into_values().flatten();
        for read in self.fresh.drain(..).chain(asked).chain(known) {
            let _ = read.send(Err(why()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_wait_for_their_index() {
        let mut reads = Reads::default();
        let (first, mut one) = oneshot::channel();
        let (second, mut two) = oneshot::channel();
        reads.add(first);
        assert_eq!(reads.next_batch(), Some(1));
        assert_eq!(reads.next_batch(), None);
        reads.add(second);
        assert_eq!(reads.next_batch(), Some(2));
        reads.answered(1, 10);
        reads.release(9);
        assert!(one.try_recv().is_err());
        reads.release(10);
        assert!(one.try_recv().is_ok());
        reads.answered(2, 11);
        reads.release(11);
        assert!(two.try_recv().is_ok());
    }

    #[test]
    fn questions_are_repeated_and_late_answers_do() {
        let mut reads = Reads::default();
        let (read, mut cleared) = oneshot::channel();
        reads.add(read);
        assert_eq!(reads.next_batch(), Some(1));
        let repeated: Vec<_> = (0..4).map(|_| reads.tick()).collect();
        assert_eq!(repeated, [None, Some(1), None, Some(1)]);
        reads.answered(1, 5);
        reads.release(5);
        assert!(cleared.try_recv().is_ok_and(|answer| answer.is_ok()));
        assert_eq!(reads.tick(), None);
    }

    #[test]
    fn without_a_leader_readers_hear_of_it() {
        let mut reads = Reads::default();
        let (read, mut cleared) = oneshot::channel();
        reads.add(read);
        reads.next_batch();
        for _ in 0..=PATIENCE_TICKS + 1 {
            reads.tick();
        }
        assert!(matches!(cleared.try_recv(), Ok(Err(StoreError::NoLeader { .. }))));
    }
}
