//! Settings of a host.

use crate::compiler::Compiler;
use std::path::PathBuf;
use std::sync::Arc;

/// Settings of a [`Host`].
#[derive(Clone)]
pub struct HostConfig {
    /// Where compiled programs are kept between runs; None: not at all.
    pub cache_dir: Option<PathBuf>,
    /// Compiles programs in a process of its own, with bounds; None: in this
    /// one, without any. For programs that are not trusted.
    pub compiler: Option<Compiler>,
    /// Most programs that run, and requests that are answered, at once. Costs
    /// address space and kernel page tables, not memory.
    pub max_instances: u32,
    /// Most memory of a guest whose specification names no limit, in bytes.
    pub memory_bytes_max: u64,
    /// Threads that run guests; None: one per core.
    pub threads: Option<usize>,
    /// Certificates (PEM) of the authorities that guests' outbound HTTPS trusts;
    /// None: those this machine trusts.
    pub ca_bundle: Option<PathBuf>,
    /// Runs on each guest thread before any guest does, for instance to enter
    /// a network namespace.
    pub on_thread_start: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for HostConfig {
    fn default() -> HostConfig {
        HostConfig {
            cache_dir: None,
            compiler: None,
            max_instances: 10_000,
            memory_bytes_max: 1 << 30,
            threads: None,
            ca_bundle: None,
            on_thread_start: None,
        }
    }
}
