//! The working host: engine, guest threads and compiled programs.

use super::config::HostConfig;
use crate::WasmError;
use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::engine::Base;
use crate::http::Tls;
use crate::program::Inner;
use crate::ticker::Ticker;
use crate::tools::Tools;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::Semaphore;

/// Programs that are compiled apart at the same time: one that takes all the
/// time it may must not hold up all others.
const APART_MAX: usize = 2;

/// One program, locked while it is being compiled so that this is done once.
pub(super) type Slot = Arc<tokio::sync::Mutex<Weak<Inner>>>;

/// The working host.
pub(crate) struct Core {
    pub(super) tools: Arc<Tools>,
    /// None only while being dropped.
    runtime: Option<Runtime>,
    pub(super) cache: Option<Cache>,
    pub(super) compiler: Option<Compiler>,
    pub(super) programs: Mutex<HashMap<String, Slot>>,
    /// Few at a time: each uses every core, and a lot of memory.
    pub(super) compiling: Semaphore,
}

impl Core {
    pub(super) fn new(config: &HostConfig) -> Result<Core, WasmError> {
        let base = Base::new(config.max_instances)?;
        let thread = |source| WasmError::Io {
            context: "start the wasm host's threads".into(),
            source,
        };
        let ticker = Ticker::start(&base.engine).map_err(thread)?;
        Ok(Core {
            tools: Arc::new(Tools {
                base,
                ticker,
                memory_bytes_max: config.memory_bytes_max,
                scratch: scratch(config),
                ports: Arc::default(),
                tls: Arc::new(Tls::new(config.ca_bundle.clone())),
            }),
            runtime: Some(runtime(config).map_err(thread)?),
            cache: config.cache_dir.clone().map(Cache::open).transpose()?,
            compiler: config.compiler.clone(),
            programs: Mutex::default(),
            compiling: Semaphore::new(if config.compiler.is_some() { APART_MAX } else { 1 }),
        })
    }

    pub(crate) fn runtime(&self) -> &Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle(),
            None => unreachable!("the runtime is taken only by drop"),
        }
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The usual way would wait for guests, and must not be gone in async code.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(super) fn scratch(config: &HostConfig) -> PathBuf {
    match &config.cache_dir {
        Some(dir) => dir.join("files"),
        None => std::env::temp_dir(),
    }
}

fn runtime(config: &HostConfig) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.thread_name("wasm-guest").enable_all();
    // Guests may compute for a whole tick in each poll: look after sockets and
    // timers more often than between 61 of them.
    builder.event_interval(7);
    if let Some(threads) = config.threads {
        builder.worker_threads(threads.max(1));
    }
    if let Some(on_start) = config.on_thread_start.clone() {
        builder.on_thread_start(move || on_start());
    }
    builder.build()
}
