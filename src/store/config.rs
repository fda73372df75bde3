//! Settings of a store.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base::{Clock, Random, SystemClock, SystemRandom};

use crate::membership::Peer;
use crate::peers::Dialer;
use crate::plant::Plants;

/// Settings of a [`Store`](crate::Store); `StoreConfig::new(dir)` has sensible ones.
#[derive(Clone)]
pub struct StoreConfig {
    /// The data folder: holds `raft/` (the log) and `state/` (RocksDB). Made if missing.
    pub dir: PathBuf,
    /// How many recent events are kept in memory for watchers; older ones come from disk.
    pub watch_window: usize,
    /// How many bytes of recent events are kept in memory at most.
    pub watch_window_bytes: usize,
    /// Size of one log segment file.
    pub segment_bytes: u64,
    /// State is flushed, so that log can be recycled, each time the log has grown by this.
    pub flush_log_bytes: u64,
    /// Bytes that the state may take, history included, before writes that grow are
    /// refused; 0 for no limit.
    pub quota_bytes: u64,
    /// Largest call that is accepted, encoded.
    pub request_bytes_max: usize,
    /// History older than this is compacted away, up to twice this late; `None` keeps all of it.
    pub keep_history: Option<Duration>,
    /// How much of the log is kept in memory, in bytes, for members that lag;
    /// one that lags further gets a snapshot.
    pub keep_log_bytes: usize,
    /// The group to join, if the folder is empty; `None` begins a new one.
    pub join: Option<u64>,
    /// This member keeps log and votes and no state; only one that joins a group can.
    pub witness: bool,
    /// Where this member is found by the others; its id is ignored. Without an
    /// address it tells nobody.
    pub here: Peer,
    /// The way to other members; without it this one can have none.
    pub dialer: Option<Arc<dyn Dialer>>,
    /// Called in the thread that opens the store, before it does. What is started meanwhile inherits what it asks of
    /// the kernel: RocksDB's threads, which flush and compact for tens of milliseconds on end.
    pub at_open: fn(),
    /// Called in each thread that acknowledgements wait for, when the store is open or nearly: it may ask the kernel for
    /// precedence, since all that such a thread does for a write takes a fraction of a millisecond.
    pub at_work: fn(),
    /// For tests.
    pub(crate) plants: Plants,
    /// Where time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where randomness comes from.
    pub random: Arc<dyn Random>,
}

impl StoreConfig {
    /// The defaults, for a store in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        StoreConfig {
            dir: dir.into(),
            watch_window: 4096,
            watch_window_bytes: 4 << 20,
            segment_bytes: 4 << 20,
            flush_log_bytes: 8 << 20,
            // As much as etcd's.
            quota_bytes: 2 << 30,
            request_bytes_max: 8 << 20,
            keep_log_bytes: 4 << 20,
            join: None,
            witness: false,
            here: Peer::default(),
            dialer: None,
            at_open: || {},
            at_work: || {},
            plants: Plants::default(),
            // Kubernetes' own default (--etcd-compaction-interval).
            keep_history: Some(Duration::from_secs(300)),
            clock: Arc::new(SystemClock::new()),
            random: Arc::new(SystemRandom),
        }
    }
}
