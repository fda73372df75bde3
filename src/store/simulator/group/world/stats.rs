//! What happened in a history, in numbers.

use crate::simulator::seeds::Tally;

/// What happened, to see that enough did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub acknowledged: u64,
    pub reads: u64,
    pub crashes: u64,
    pub leaders: u64,
    pub snapshots: u64,
    pub changes: u64,
    pub forwarded: u64,
    pub followed: u64,
    /// Steps that a machine spent without being able to write.
    pub suspended: u64,
    /// Commits of several operations that were seen.
    pub batches: u64,
    /// Deletions of what had a time.
    pub expired: u64,
    /// Listings of the past.
    pub looked: u64,
    /// Bits that flipped.
    pub flipped: u64,
    /// Of these, those for which a member refused to start.
    pub damaged: u64,
    /// Pieces of states that were damaged.
    pub rotten: u64,
    /// Of these, those of which the administrator has heard.
    pub named: u64,
    /// Machines lost for good.
    pub lost: u64,
    /// Terms in which a witness led.
    pub witnessed: u64,
    /// Of these, in which a full voter that ran lacked nothing.
    pub needless: u64,
}

impl Tally for Stats {
    fn add(&mut self, other: &Stats) {
        self.acknowledged += other.acknowledged;
        self.reads += other.reads;
        self.crashes += other.crashes;
        self.leaders += other.leaders;
        self.snapshots += other.snapshots;
        self.changes += other.changes;
        self.forwarded += other.forwarded;
        self.followed += other.followed;
        self.suspended += other.suspended;
        self.batches += other.batches;
        self.expired += other.expired;
        self.looked += other.looked;
        self.flipped += other.flipped;
        self.damaged += other.damaged;
        self.rotten += other.rotten;
        self.named += other.named;
        self.lost += other.lost;
        self.witnessed += other.witnessed;
        self.needless += other.needless;
    }
}
