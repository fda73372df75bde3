//! What happened to a simulated machine.

use crate::simulator::seeds::Tally;

/// What happened, to see that enough did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub acknowledged: u64,
    pub refused: u64,
    pub crashes: u64,
    pub compactions: u64,
    pub expired: u64,
    pub reads: u64,
    /// How often the disk took nothing.
    pub suspended: u64,
    /// Writes of which nobody knew, because of that.
    pub uncertain: u64,
}

impl Tally for Stats {
    fn add(&mut self, other: &Stats) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.compactions += other.compactions;
        self.expired += other.expired;
        self.reads += other.reads;
        self.suspended += other.suspended;
        self.uncertain += other.uncertain;
    }
}
