//! What the tasks of guests use of their host.

use crate::engine::Base;
use crate::http::Tls;
use crate::sockets::Ports;
use crate::ticker::Ticker;
use std::path::PathBuf;
use std::sync::Arc;

/// What guests' tasks use. Not the runtime, which must not be dropped by one of
/// its own tasks.
pub(crate) struct Tools {
    pub(crate) base: Base,
    pub(crate) ticker: Ticker,
    pub(crate) memory_bytes_max: u64,
    /// For copies of single files that are mounted.
    pub(crate) scratch: PathBuf,
    pub(crate) ports: Arc<Ports>,
    pub(crate) tls: Arc<Tls>,
}
