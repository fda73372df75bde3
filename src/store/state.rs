//! What the state machine's state must offer, whoever keeps it: RocksDB in
//! production, memory in the simulator.

use std::sync::Arc;

use raft::eraftpb::ConfState;

use crate::error::StoreError;
use crate::types::{Entry, Event, ListQuery, Listing};

/// Everything about the state beside the entries; changes together with them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta {
    /// Index of the last log entry applied.
    pub applied: u64,
    /// Term of that entry.
    pub applied_term: u64,
    /// The latest revision.
    pub revision: u64,
    /// History before this revision is gone.
    pub compacted: u64,
    /// The group's members as of `applied`.
    pub members: ConfState,
    /// Which group's state it is.
    pub cluster: u64,
    /// Which member's state it is.
    pub member: u64,
}

/// Entries that the store shall delete: each key with its revision.
pub type Expired = Vec<(String, u64)>;

/// The durable state. Writes are in order but survive a crash only once
/// flushed; what survives is always the state as it was after some write.
pub trait State: Send + Sync {
    /// The meta data written last; `None` in a new state.
    fn meta(&self) -> Result<Option<Meta>, StoreError>;
    /// All latest entries, in key order.
    fn load(&self) -> Result<Vec<Arc<Entry>>, StoreError>;
    /// Adds the events' versions and replaces the meta data, all or nothing.
    fn write(&self, events: &[Arc<Event>], meta: &Meta) -> Result<(), StoreError>;
    /// Makes everything written so far durable; returns an applied index that certainly is.
    fn flush(&self) -> Result<u64, StoreError>;
    /// The listing exactly as of a revision that is neither compacted nor in the future.
    fn list_at(&self, query: &ListQuery, revision: u64) -> Result<Listing, StoreError>;
    /// Up to `limit` events under `prefix` after revision `after` and up to
    /// `until`, in order; fewer only if there are no more.
    fn events(
        &self,
        prefix: &str,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError>;
    /// Up to `limit` entries whose time has come, earliest first.
    fn expired(&self, now_ms: u64, limit: usize) -> Result<Expired, StoreError>;
    /// Physically removes some of the versions that compaction up to
    /// `compacted` made unreachable; true if there may be more.
    fn sweep(&self, compacted: u64) -> Result<bool, StoreError>;
}

#[cfg(test)]
mod suite;
