//! How a store looks after itself.

use std::time::Duration;

use crate::membership::Peer;
use crate::plant::Plants;

/// How the store looks after itself.
#[derive(Clone, Debug)]
pub struct Habits {
    /// This run's ticket origin.
    pub origin: u64,
    /// History older than this is compacted.
    pub keep_history: Option<Duration>,
    /// How much applied log is kept in memory for peers that lag, in bytes.
    pub keep_log_bytes: usize,
    /// This member keeps log and votes and no state.
    pub witness: bool,
    /// Where this member can be found; an empty address if nobody shall.
    pub here: Peer,
    /// For the simulator.
    pub plants: Plants,
}
