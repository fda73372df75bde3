//! What the state machine's state must offer, whoever keeps it: RocksDB in
//! production, memory in the simulator.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::StoreError;
pub use crate::meta::Meta;
use crate::types::{Entry, Event, ListQuery, Listing};

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
    /// After a failed write or flush: makes the state take writes again, if that
    /// can be done now. Nothing that was written is lost by it.
    fn renew(&self) -> Result<(), StoreError>;
    /// How much room the state takes.
    fn usage(&self) -> Usage;
    /// Gives room back that deletions have left; goes on beside reads and writes.
    fn defragment(&self) -> Result<(), StoreError>;
    /// What was found damaged of it since it was opened, if anything was: whoever wanted to read that was refused.
    fn damage(&self) -> Option<String> {
        None
    }
    /// A copy of everything as it is now, to be read while writing goes on.
    fn export(&self) -> Result<Box<dyn Export>, StoreError>;
    /// A new, empty state beside this one, to take in another member's copy.
    fn import(&self) -> Result<Box<dyn Import>, StoreError>;
}

/// How much room a state takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of what is in it, history included, in memory or on the disk.
    pub bytes: u64,
    /// Bytes of its files, with what is in them and does not count any more.
    pub file_bytes: u64,
    /// Bytes written to files since it was opened.
    pub written_bytes: u64,
}

/// One version of a key, as it is stored: the value is `version.rs`'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The key.
    pub key: String,
    /// Revision of the change that made the version.
    pub revision: u64,
    /// What was written, or the mark of a deletion.
    pub value: Bytes,
}

/// Hands out a copy of the state, once.
pub trait Export: Send {
    /// More versions, sorted by key, a key's newest first; empty when there are no more.
    fn next(&mut self) -> Result<Vec<Version>, StoreError>;
}

/// Takes in a copy of the state. Dropped before [`finish`](Self::finish), it leaves nothing behind.
pub trait Import: Send {
    /// More versions, in the order of [`Export`]; `compacted` is the copy's.
    fn add(&mut self, versions: Vec<Version>, compacted: u64) -> Result<(), StoreError>;
    /// All has come: makes it durable. Takes as long as the disk likes.
    fn finish(self: Box<Self>) -> Result<Install, StoreError>;
}

/// Puts an imported copy, with the meta data given, in the state's place: all
/// or nothing, durable when it returns. Nothing may be written meanwhile.
pub type Install = Box<dyn FnOnce(&Meta) -> Result<(), StoreError> + Send>;

/// Tells what of a copy is still wanted: what its compaction made unreachable
/// may not have been swept away yet where it comes from.
#[derive(Default)]
pub struct Sieve {
    key: String,
    /// The newest version of the key at or before the compaction has passed.
    base: bool,
}

/// What a version of a copy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Its key's latest.
    Latest,
    /// An older one that can still be asked for.
    Older,
    /// One that nobody can ask for.
    Unreachable,
}

impl Sieve {
    /// Judges the next version; `live` is whether it is not a deletion.
    pub fn judge(&mut self, version: &Version, live: bool, compacted: u64) -> Verdict {
        let latest = self.key != version.key;
        if latest {
            self.key.clone_from(&version.key);
            self.base = false;
        }
        if version.revision <= compacted {
            let first = !std::mem::replace(&mut self.base, true);
            if !(first && live) {
                return Verdict::Unreachable;
            }
        }
        if latest { Verdict::Latest } else { Verdict::Older }
    }
}

#[cfg(test)]
mod suite;
