//! Reading older revisions from the state, safely beside compaction.

use std::sync::{Arc, RwLock};

use crate::cache::Cache;
use crate::error::StoreError;
use crate::state::{Import, State, Usage};
use crate::types::{Event, ListQuery, Listing};

/// A shared way to the state that can be shut, so that a closed store really
/// lets go of its files whoever still holds a handle.
#[derive(Clone)]
pub struct History {
    state: Arc<RwLock<Option<Arc<dyn State>>>>,
    cache: Arc<Cache>,
}

impl History {
    /// Reads from `state`; compaction is known from `cache`.
    pub fn new(state: Arc<dyn State>, cache: Arc<Cache>) -> History {
        History {
            state: Arc::new(RwLock::new(Some(state))),
            cache,
        }
    }

    /// Lets go of the state.
    pub fn close(&self) {
        self.state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .take();
    }

    /// The listing exactly as of `revision`.
    pub fn list_at(&self, query: &ListQuery, revision: u64) -> Result<Listing, StoreError> {
        let current = self.cache.position().revision;
        if revision > current {
            return Err(StoreError::Future {
                asked: revision,
                current,
            });
        }
        self.check(revision)?;
        let listing = self.state()?.list_at(query, revision);
        // Compaction may have begun to remove what was being read; what it
        // removes it announces first.
        self.check(revision)?;
        listing
    }

    /// Events under `prefix` after revision `after` and up to `until`, at most `limit`.
    pub fn events(
        &self,
        prefix: &str,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let events = self.state()?.events(prefix, after, until, limit);
        self.check(after)?;
        events
    }

    /// Begins to take in another member's copy.
    pub fn import(&self) -> Result<Box<dyn Import>, StoreError> {
        self.state()?.import()
    }

    /// What was found damaged, if anything was.
    pub fn damage(&self) -> Option<String> {
        self.state().ok()?.damage()
    }

    fn check(&self, revision: u64) -> Result<(), StoreError> {
        match self.cache.position().compacted {
            oldest if revision < oldest => Err(StoreError::Compacted { oldest }),
            _ => Ok(()),
        }
    }

    /// Makes the state's files smaller; how much room it takes before and after.
    pub fn defragment(&self) -> Result<(Usage, Usage), StoreError> {
        let state = self.state()?;
        let before = state.usage();
        state.defragment()?;
        Ok((before, state.usage()))
    }

    fn state(&self) -> Result<Arc<dyn State>, StoreError> {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.clone().ok_or(StoreError::Closed)
    }
}
