//! A replicated, revisioned key-value store: Raft, a segment log, RocksDB, watches.

mod config;
mod error;
mod types;
mod watch;

pub use config::StoreConfig;
pub use error::StoreError;
pub use types::{Change, Entry, Event, Expect, Header, ListQuery, Listing, Op, Outcome, Record};
pub use watch::Watch;

use std::sync::Arc;

/// A handle on the store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    _inner: Arc<()>,
}

impl Store {
    /// Opens or creates the store in `config.dir`; it is ready for everything when this returns.
    pub async fn open(_config: StoreConfig) -> Result<Store, StoreError> {
        todo!()
    }

    /// Does all operations or, if any precondition fails, none
    /// ([`StoreError::Precondition`]). Durable when it returns.
    pub async fn commit(&self, _ops: Vec<Op>) -> Result<Vec<Outcome>, StoreError> {
        todo!()
    }

    /// The latest entry under a key (linearizable).
    pub async fn get(&self, _key: &str) -> Result<Option<Arc<Entry>>, StoreError> {
        todo!()
    }

    /// Entries under a prefix: the latest (linearizable) or exactly those of an older revision.
    pub async fn list(&self, _query: ListQuery) -> Result<Listing, StoreError> {
        todo!()
    }

    /// The entry under a key in this member's memory; may lag behind the group.
    pub fn peek(&self, _key: &str) -> Option<Arc<Entry>> {
        todo!()
    }

    /// The entries under a prefix in this member's memory, and their revision.
    pub fn peek_prefix(&self, _prefix: &str) -> (u64, Vec<Arc<Entry>>) {
        todo!()
    }

    /// Events under a prefix with a revision greater than `from`, in order, none left out.
    /// `from` may lie in the future.
    pub fn watch(&self, _prefix: &str, _from: u64) -> Result<Watch, StoreError> {
        todo!()
    }

    /// The latest revision applied by this member.
    pub fn revision(&self) -> u64 {
        todo!()
    }

    /// Waits until this member has applied `revision`.
    pub async fn reached(&self, _revision: u64) -> Result<(), StoreError> {
        todo!()
    }

    /// Forgets history before `revision`: it can be listed, older revisions cannot.
    pub async fn compact(&self, _revision: u64) -> Result<(), StoreError> {
        todo!()
    }

    /// Stops the store and waits until everything is on disk. Later calls get [`StoreError::Closed`].
    pub async fn close(&self) {
        todo!()
    }
}
