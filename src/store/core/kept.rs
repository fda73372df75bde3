//! What the core keeps for some of its rooms.

use std::sync::Arc;

use crate::apply::Verdict;
use crate::types::Event;

/// What was applied and waits for the state to take it.
pub(super) struct Unwritten {
    pub(super) events: Vec<Arc<Event>>,
    /// What callers of this member will be told, by the number of their call.
    pub(super) verdicts: Vec<(u64, Verdict)>,
}

/// What a leader knows of the group's witness.
#[derive(Default)]
pub(super) struct Keeping {
    /// The term in which this member leads.
    pub(super) term: u64,
    /// The witness may lack entries up to this one, and certainly has what it had of those after it.
    pub(super) forgotten: u64,
    /// Bytes applied since the witness was last told what it need not keep.
    pub(super) applied_bytes: usize,
}
