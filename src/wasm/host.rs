//! The host: engine, guest threads and compiled programs.

use crate::{Instance, InstanceSpec, Program, WasmError};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Settings of a [`Host`].
#[derive(Clone)]
pub struct HostConfig {
    /// Where compiled programs are kept between runs; None: not at all.
    pub cache_dir: Option<PathBuf>,
    /// Most instances at once. Costs address space, not memory.
    pub max_instances: u32,
    /// Largest linear memory any guest may have, in bytes.
    pub memory_bytes_max: u64,
    /// Threads that run guests; None: one per core.
    pub threads: Option<usize>,
    /// Runs on each guest thread before any guest does, for instance to enter
    /// a network namespace.
    pub on_thread_start: Option<Arc<dyn Fn() + Send + Sync>>,
}

impl Default for HostConfig {
    fn default() -> HostConfig {
        HostConfig {
            cache_dir: None,
            max_instances: 10_000,
            memory_bytes_max: 1 << 30,
            threads: None,
            on_thread_start: None,
        }
    }
}

/// Compiles and runs programs. Cheap to clone; engine and threads appear with
/// the first program, so that a host nobody uses costs nothing.
#[derive(Clone)]
pub struct Host {
    #[allow(dead_code)]
    config: Arc<HostConfig>,
}

impl Host {
    /// A host with these settings.
    ///
    /// # Errors
    /// When the cache folder cannot be made.
    pub fn new(config: HostConfig) -> Result<Host, WasmError> {
        Ok(Host {
            config: Arc::new(config),
        })
    }

    /// Compiles a program, or takes it from the cache. `digest` names these
    /// exact bytes (`sha256:…`) and is the cache's key.
    ///
    /// # Errors
    /// When the bytes are not a program this host can run.
    pub async fn compile(&self, _digest: &str, _bytes: Bytes) -> Result<Program, WasmError> {
        todo!()
    }

    /// As [`Host::compile`], reading the program only when the cache lacks it.
    ///
    /// # Errors
    /// As [`Host::compile`], and when the file cannot be read.
    pub async fn compile_file(&self, _digest: &str, _path: &Path) -> Result<Program, WasmError> {
        todo!()
    }

    /// Starts a program; returns when it runs, for `wasi:http` when it listens.
    ///
    /// # Errors
    /// When mounts, address or limits cannot be had.
    pub async fn start(&self, _program: &Program, _spec: InstanceSpec) -> Result<Instance, WasmError> {
        todo!()
    }
}
