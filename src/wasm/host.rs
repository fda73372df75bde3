//! The host: engine, guest threads and compiled programs.

mod programs;
mod start;

use crate::cache::Cache;
use crate::compiler::Compiler;
use crate::engine::Base;
use crate::http::Tls;
use crate::program::Program;
use crate::sockets::Ports;
use crate::ticker::Ticker;
use crate::{Instance, InstanceSpec, WasmError, mounts};
use bytes::Bytes;
use programs::{Slot, Source};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OnceCell, Semaphore};

/// Programs that are compiled apart at the same time: one that takes all the
/// time it may must not hold up all others.
const APART_MAX: usize = 2;

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

/// Compiles and runs programs. Cheap to clone; engine and threads appear with
/// the first program, so that a host nobody uses costs nothing. Its methods
/// must be called within a tokio runtime; guests run on one of their own.
#[derive(Clone)]
pub struct Host {
    config: Arc<HostConfig>,
    core: Arc<OnceCell<Arc<Core>>>,
}

/// What guests' tasks use. Not the runtime, which must not be dropped by one of
/// its own tasks.
pub(crate) struct Tools {
    pub(crate) base: Base,
    pub(crate) ticker: Ticker,
    memory_bytes_max: u64,
    /// For copies of single files that are mounted.
    scratch: PathBuf,
    ports: Arc<Ports>,
    tls: Arc<Tls>,
}

/// One program of an application, see [`Host::start_app`].
pub struct AppPart {
    /// The program.
    pub program: Program,
    /// Routes that lead to it: a path (`/hello`), perhaps with named parts
    /// (`/users/:name`) or `/...` at its end for all below.
    pub routes: Vec<String>,
    /// What it is given.
    pub spec: InstanceSpec,
}

/// The working host.
pub(crate) struct Core {
    tools: Arc<Tools>,
    /// None only while being dropped.
    runtime: Option<Runtime>,
    cache: Option<Cache>,
    compiler: Option<Compiler>,
    programs: Mutex<HashMap<String, Slot>>,
    /// Few at a time: each uses every core, and a lot of memory.
    compiling: Semaphore,
}

impl Host {
    /// A host with these settings.
    ///
    /// # Errors
    /// When the cache folder cannot be made.
    pub fn new(config: HostConfig) -> Result<Host, WasmError> {
        if let Some(dir) = &config.cache_dir {
            Cache::open(dir.clone())?.sweep();
            mounts::sweep(&scratch(&config));
        }
        Ok(Host {
            config: Arc::new(config),
            core: Arc::default(),
        })
    }

    /// Compiles a program, or takes it from the cache. `digest` names these
    /// exact bytes (`sha256:…`) and is the cache's key. Besides the binary
    /// format, WebAssembly's text format is taken.
    ///
    /// # Errors
    /// When the bytes are not a program this host can run, or compiling it
    /// exceeds the [`Compiler`]'s bounds.
    pub async fn compile(&self, digest: &str, bytes: Bytes) -> Result<Program, WasmError> {
        self.core().await?.program(digest, Source::Bytes(bytes)).await
    }

    /// As [`Host::compile`], reading the program only when the cache lacks it.
    ///
    /// # Errors
    /// As [`Host::compile`], and when the file cannot be read.
    pub async fn compile_file(&self, digest: &str, path: &Path) -> Result<Program, WasmError> {
        self.core().await?.program(digest, Source::File(path)).await
    }

    /// Removes a program from the cache, when its image is removed. Instances of
    /// it that run are not affected.
    pub fn forget(&self, digest: &str) {
        if let Some(dir) = self.config.cache_dir.clone()
            && let Ok(cache) = Cache::open(dir)
        {
            cache.forget(digest);
        }
    }

    /// Starts a program; returns when it runs, for `wasi:http` when it listens.
    ///
    /// # Errors
    /// When mounts, address or limits cannot be had. What goes wrong later is
    /// told by [`Instance::wait`].
    pub async fn start(&self, program: &Program, spec: InstanceSpec) -> Result<Instance, WasmError> {
        let core = self.core().await?;
        let home = Handle::current();
        let start = core.clone().start(program.clone(), spec, home);
        core.runtime().spawn(start).await.map_err(|_| WasmError::Closed)?
    }

    /// Starts an application: several `wasi:http` programs behind one address,
    /// each with routes, files, environment and allowed hosts of its own. Address,
    /// limits and reuse are the first one's, for all together.
    ///
    /// # Errors
    /// As [`Host::start`], and when a program does not handle requests.
    pub async fn start_app(&self, parts: Vec<AppPart>) -> Result<Instance, WasmError> {
        let core = self.core().await?;
        let start = core.clone().start_app(parts, Handle::current());
        core.runtime().spawn(start).await.map_err(|_| WasmError::Closed)?
    }

    async fn core(&self) -> Result<Arc<Core>, WasmError> {
        let core = self.core.get_or_try_init(|| async {
            let config = self.config.clone();
            let made = tokio::task::spawn_blocking(move || Core::new(&config)).await;
            made.map_err(|_| WasmError::Closed)?.map(Arc::new)
        });
        core.await.cloned()
    }
}

impl Core {
    fn new(config: &HostConfig) -> Result<Core, WasmError> {
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

fn scratch(config: &HostConfig) -> PathBuf {
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
