//! Linearizable reads: collected into batches, each of which asks Raft once for
//! the index from which its reads are safe, and waits until that is applied.

use std::collections::BTreeMap;

use tokio::sync::oneshot;

use crate::error::StoreError;

/// Tells a reader that it may read the cache now.
pub type Clearance = oneshot::Sender<Result<(), StoreError>>;

/// All reads on their way.
#[derive(Default)]
pub struct Reads {
    /// Not yet asked for.
    fresh: Vec<Clearance>,
    /// Asked for, by batch number.
    asked: BTreeMap<u64, Vec<Clearance>>,
    /// Safe once this index is applied.
    known: BTreeMap<u64, Vec<Clearance>>,
    batches: u64,
}

impl Reads {
    /// Adds a read to the next batch.
    pub fn add(&mut self, read: Clearance) {
        self.fresh.push(read);
    }

    /// Closes the batch; its number is to be asked about, if it is not empty.
    pub fn next_batch(&mut self) -> Option<u64> {
        if self.fresh.is_empty() {
            return None;
        }
        self.batches += 1;
        self.asked.insert(self.batches, std::mem::take(&mut self.fresh));
        Some(self.batches)
    }

    /// Puts unanswered batches into the next one: Raft drops questions silently.
    pub fn ask_again(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.fresh.extend(asked.into_values().flatten());
    }

    /// Batch `number`, and so all before it, is safe at `index`.
    pub fn answered(&mut self, number: u64, index: u64) {
        let later = self.asked.split_off(&(number + 1));
        let answered = std::mem::replace(&mut self.asked, later);
        self.known
            .entry(index)
            .or_default()
            .extend(answered.into_values().flatten());
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
        self.ask_again();
        let known = std::mem::take(&mut self.known).into_values().flatten();
        for read in self.fresh.drain(..).chain(known) {
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
        reads.ask_again();
        assert_eq!(reads.next_batch(), Some(3));
        reads.answered(3, 11);
        reads.release(11);
        assert!(two.try_recv().is_ok());
    }
}
