//! The host: engine, guest threads and compiled programs.

mod app;
mod config;
mod programs;
mod start;
mod working;

use crate::cache::Cache;
use crate::program::Program;
use crate::{Instance, InstanceSpec, WasmError, mounts};
use bytes::Bytes;
use programs::Source;
use std::path::Path;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::OnceCell;

pub(crate) use self::working::Core;
use self::working::scratch;
pub use app::AppPart;
pub use config::HostConfig;

/// Compiles and runs programs. Cheap to clone; engine and threads appear with
/// the first program, so that a host nobody uses costs nothing. Its methods
/// must be called within a tokio runtime; guests run on one of their own.
#[derive(Clone)]
pub struct Host {
    config: Arc<HostConfig>,
    core: Arc<OnceCell<Arc<Core>>>,
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
