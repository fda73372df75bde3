//! Bugs that can be planted, so that the simulator shows that it would find them. Outside tests nothing is ever
//! planted, and the compiler knows it.

/// A classic mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plant {
    /// What ended is forgotten before the disk knows how.
    ForgetAtOnce,
    /// Main containers start beside init containers.
    StartEarly,
    /// Sandbox and volumes go while main containers still end.
    PullAway,
    /// Volumes go before what has them mounted.
    VolumesFirst,
    /// Whoever fails to end a container is not asked again.
    StopOnce,
    /// A shim that is gone is asked for ever.
    TrustShim,
    /// A verdict counts, whichever run it is about.
    AnyVerdict,
    /// What runs is not looked for when the agent begins.
    AdoptNothing,
    /// Runs that no kept status tells of do not count.
    CountKept,
    /// A container that was added to the pod after it was kept is not known to run.
    AdoptKnown,
    /// Of a pod that was over, the end is not remembered.
    BeginAnew,
}

#[cfg(test)]
thread_local! {
    static PLANTED: std::cell::Cell<Option<Plant>> = const { std::cell::Cell::new(None) };
}

/// Plants one in this thread, or none.
#[cfg(test)]
pub fn plant(what: Option<Plant>) {
    PLANTED.set(what);
}

/// Whether this one is planted.
#[cfg(test)]
pub fn has(what: Plant) -> bool {
    PLANTED.get() == Some(what)
}

/// Whether this one is planted: never.
#[cfg(not(test))]
#[inline]
pub const fn has(_: Plant) -> bool {
    false
}
