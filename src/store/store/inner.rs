//! What all handles of a store share.

use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, OnceLock};

use base::Clock;
use tokio::sync::watch;

use crate::cache::Cache;
use crate::driver::{Input, Slot};
use crate::error::StoreError;
use crate::history::History;
use crate::membership::Whoami;
use crate::metrics::Counters;
use crate::peers::Door;
use crate::status::Leadership;

/// What the handles of a store share.
pub(super) struct Inner {
    pub(super) inputs: Slot,
    pub(super) cache: Arc<Cache>,
    pub(super) history: History,
    pub(super) origin: u64,
    pub(super) numbers: AtomicU64,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) request_bytes_max: usize,
    pub(super) local_reads: Arc<AtomicBool>,
    pub(super) failure: Arc<OnceLock<String>>,
    /// True once everything is shut and nothing is open any more.
    pub(super) ended: watch::Receiver<bool>,
    pub(super) whoami: Whoami,
    pub(super) leadership: watch::Receiver<Leadership>,
    pub(super) alarm: watch::Receiver<Option<String>>,
    pub(super) full: Arc<AtomicU64>,
    pub(super) quota: u64,
    pub(super) counters: Arc<Counters>,
    pub(super) door: Door,
}

impl Inner {
    pub(super) fn gone(&self) -> StoreError {
        gone(&self.failure)
    }
}

impl Drop for Inner {
    /// Without [`Store::close`], the thread ends by itself soon after.
    fn drop(&mut self) {
        let _ = self.inputs.send(Input::Stop);
    }
}

/// What is said of a store that has ended.
pub(super) fn gone(failure: &OnceLock<String>) -> StoreError {
    failure
        .get()
        .map_or(StoreError::Closed, |reason| StoreError::Stopped(reason.clone()))
}
