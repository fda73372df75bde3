//! Bugs that can be planted, so that the simulator shows that it would find
//! them. Outside tests nothing is ever planted, and the compiler knows it.

/// A classic mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// Entries are acknowledged before they are synced: a mistake of the simulated disk alone.
    #[cfg(test)]
    AcknowledgeUnsynced,
    /// After a sync that failed, another one is believed. Planted in the log, in tests alone.
    #[cfg(test)]
    SyncAgain,
    /// History is swept one revision further than it is compacted. Planted in the simulated upkeep alone.
    #[cfg(test)]
    SweepTooFar,
    /// Nobody looks at checksums. Planted where bits flip, in tests alone: the checksums fit the damage.
    #[cfg(test)]
    TrustBytes,
    /// Who reads the state takes a damaged piece for the end of what there is, as one who does not ask an iterator
    /// why it ended. Planted in the simulated state, in tests alone.
    #[cfg(test)]
    EndAtDamage,
    /// A log that is damaged in the middle ends there, as if the rest had never been written.
    CutDamage,
    /// What is committed together is shown one change after the other.
    TearCommits,
    /// What has had a time goes when that has come, though it was written anew.
    ExpireWritten,
    /// A vote goes out before it is durable.
    VoteUnsynced,
    /// The only voter, which elects itself, tells learners of its term before that is durable.
    LeadUnsynced,
    /// A read is let go without asking whether this member still leads.
    ReadUnasked,
    /// Reads are let go when their index is known, not when it is applied.
    ReadUnapplied,
    /// After a snapshot the members are those from before.
    ForgetMembers,
    /// After a snapshot a watch goes on as if nothing had happened in between.
    LoseEvents,
    /// The log does not begin anew after a snapshot.
    KeepLog,
    /// A forwarded call is tried again as soon as the leader changes.
    RetryAtOnce,
    /// A forwarded call is proposed in whatever term it is.
    AnyTerm,
    /// A reply to a call of an earlier life is taken for one to a call of this life.
    AnyLife,
    /// Batched appends, which acknowledge what a follower lacks, and nobody who checks messages.
    BatchAppend,
    /// The hard state is not written.
    ForgetTerm,
    /// The applied index is kept apart from what was applied, a little behind.
    ApplyTwice,
    /// A change of the members counts as soon as it is applied, whoever knows of it.
    CountEarly,
    /// No mistake: this member leads as versions did that have no change of the members settled.
    Elder,
    /// A witness lets go of log as soon as it has applied it, whatever others lack.
    WitnessForgets,
    /// What every full voter has is reckoned without those who are away.
    WitnessHoldsForSome,
    /// A witness stands for election as soon as others do.
    WitnessStands,
    /// A witness that was elected goes on leading.
    WitnessStays,
}

/// What is planted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plants {
    #[cfg(test)]
    planted: Option<Plant>,
}

impl Plants {
    /// Plants one.
    #[cfg(test)]
    pub fn one(plant: Option<Plant>) -> Plants {
        Plants { planted: plant }
    }

    /// Whether none is planted.
    #[cfg(test)]
    pub fn is_empty(self) -> bool {
        self.planted.is_none()
    }

    /// Whether this one is planted.
    #[cfg(test)]
    pub fn has(self, plant: Plant) -> bool {
        self.planted == Some(plant)
    }

    /// Whether this one is planted.
    #[cfg(not(test))]
    pub const fn has(self, _: Plant) -> bool {
        false
    }
}
