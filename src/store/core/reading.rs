//! Clearance to read: batches of readers, for each of which the leader is asked once how far this member must be.

use super::Core;
use crate::plant::Plant;
use crate::reads::Clearance;

impl Core {
    /// Asks for clearance to read the cache linearizably.
    pub fn read(&mut self, clearance: Clearance) {
        if self.habits.plants.has(Plant::ReadUnasked) {
            drop(clearance.send(Ok(())));
            return;
        }
        self.reads.add(clearance);
    }

    pub(super) fn ask(&mut self, batch: u64) {
        // The same never comes again, here or elsewhere: who, in which life, which batch.
        let context = [self.meta.member, self.habits.origin, batch]
            .map(u64::to_le_bytes)
            .concat();
        self.member.read_index(context);
    }

    /// A new leader lets questions fall until an entry of its term is committed. Here it is.
    pub(super) fn ask_again(&mut self) {
        let before = std::mem::replace(&mut self.heard_term, self.meta.applied_term);
        if before != self.meta.applied_term
            && let Some(batch) = self.reads.latest_asked()
        {
            self.ask(batch);
        }
    }

    /// The leader has answered: reads asked for with these contexts see what they must once the index is applied.
    pub(super) fn reads_cleared(&mut self, answers: Vec<(Vec<u8>, u64)>) {
        for (context, index) in answers {
            if let Some(batch) = self.batch_of(&context) {
                self.reads.answered(batch, index);
            }
        }
        self.release_reads();
    }

    fn batch_of(&self, context: &[u8]) -> Option<u64> {
        let (whose, batch) = context.split_at_checked(16)?;
        let ours = [self.meta.member, self.habits.origin]
            .map(u64::to_le_bytes)
            .concat();
        (whose == ours).then_some(u64::from_le_bytes(batch.try_into().ok()?))
    }

    pub(super) fn release_reads(&mut self) {
        // What was applied and not written is not visible yet either.
        if self.unwritten.is_none() {
            let early = self.habits.plants.has(Plant::ReadUnapplied);
            self.reads
                .release(if early { u64::MAX - 1 } else { self.meta.applied });
        }
    }
}
