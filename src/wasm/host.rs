//! The host: engine, guest threads and compiled programs.

use crate::cache::{Cache, open_compiled};
use crate::compiler::{Compiler, precompile};
use crate::detect::{Form, PROGRAM_BYTES_MAX, compile_error, form};
use crate::engine::Base;
use crate::http::{Outbound, Tls};
use crate::instance::{Control, Report};
use crate::limits::Account;
use crate::mounts::{self, Mounts};
use crate::program::{Code, Inner, Program};
use crate::sockets::{Ports, Sockets, listen};
use crate::state::Blueprint;
use crate::ticker::Ticker;
use crate::{Instance, InstanceSpec, ProgramKind, WasmError, http, preview1, run};
use bytes::Bytes;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::{OnceCell, Semaphore};
use wasmtime::Engine;

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

/// One program, locked while it is being compiled so that this is done once.
type Slot = Arc<tokio::sync::Mutex<Weak<Inner>>>;

enum Source<'a> {
    Bytes(Bytes),
    File(&'a Path),
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

    async fn program(self: &Arc<Self>, digest: &str, source: Source<'_>) -> Result<Program, WasmError> {
        let slot = self.slot(digest);
        let mut known = slot.lock().await;
        if let Some(inner) = known.upgrade() {
            return Ok(Program { inner });
        }
        let program = match self.cached(digest).await? {
            Some(program) => program,
            None => self.compile(digest, read(source).await?).await?,
        };
        *known = Arc::downgrade(&program.inner);
        Ok(program)
    }

    fn slot(&self, digest: &str) -> Slot {
        // A std mutex: nothing awaits while it is held.
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let is_in_use = |slot: &Slot| match slot.try_lock() {
            Ok(program) => program.strong_count() > 0 || Arc::strong_count(slot) > 1,
            Err(_) => true,
        };
        programs.retain(|_, slot| is_in_use(slot));
        programs.entry(digest.into()).or_default().clone()
    }

    async fn cached(self: &Arc<Self>, digest: &str) -> Result<Option<Program>, WasmError> {
        if self.cache.is_none() {
            return Ok(None);
        }
        self.blocking(digest, |core, digest| {
            let engine = &core.tools.base.engine;
            let Some(code) = core.cache.as_ref().and_then(|cache| cache.load(engine, digest)) else {
                return Ok(None);
            };
            Program::link(&core.tools.base, digest, code).map(Some)
        })
        .await
    }

    async fn compile(self: &Arc<Self>, digest: &str, bytes: Bytes) -> Result<Program, WasmError> {
        let form = form(&bytes)?;
        let _permit = self.compiling.acquire().await.map_err(|_| WasmError::Closed)?;
        let apart = match &self.compiler {
            Some(compiler) => Some(compiler.compile(form, &bytes).await?),
            None => None,
        };
        self.blocking(digest, move |core, digest| {
            let engine = &core.tools.base.engine;
            let compiled = match apart {
                Some(compiled) => compiled,
                None => precompile(engine, form, &bytes)?,
            };
            let code = core.keep(engine, digest, form, &compiled)?;
            Program::link(&core.tools.base, digest, code)
        })
        .await
    }

    /// Puts compiled code where it can be run from: into the cache, or into
    /// memory if there is none or its disk is full.
    fn keep(&self, engine: &Engine, digest: &str, form: Form, compiled: &[u8]) -> Result<Code, WasmError> {
        if let Some(cache) = &self.cache {
            match cache.store(engine, digest, form, compiled) {
                Ok(code) => return Ok(code),
                Err(error) => tracing::warn!(digest, %error, "cannot keep a compiled wasm program"),
            }
        }
        open_compiled(engine, form, compiled).map_err(|error| compile_error(&error))
    }

    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        digest: &str,
        work: impl FnOnce(&Core, &str) -> Result<T, WasmError> + Send + 'static,
    ) -> Result<T, WasmError> {
        let (core, digest) = (self.clone(), digest.to_string());
        let done = self.runtime().spawn_blocking(move || work(&core, &digest)).await;
        done.map_err(|_| WasmError::Engine("compiling was interrupted".into()))?
    }

    async fn start(
        self: Arc<Self>,
        program: Program,
        mut spec: InstanceSpec,
        home: Handle,
    ) -> Result<Instance, WasmError> {
        let account = self.account(&spec);
        let (http_address, reuse) = (spec.http_address, spec.reuse);
        let stdin = std::mem::take(&mut spec.stdin);
        let wanted = preview1::wanted(&program, &mut spec);
        let mut inherited = match program.kind() {
            // The guest binds its own.
            ProgramKind::Command => Vec::new(),
            _ => std::mem::take(&mut spec.inherited),
        };
        let blueprint = self.blueprint(&program, spec, account, home).await?;
        if program.kind() == ProgramKind::Http {
            let site = http::Site::of_one(program, blueprint.clone(), reuse);
            return self.serve(site, &blueprint, http_address, inherited);
        }
        let listeners = wanted
            .into_iter()
            .map(|at| listen(&blueprint.sockets, at.address, &mut inherited));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let control = Arc::new(Control::new(&blueprint, None));
        let report = Report(control.clone());
        drop(tokio::spawn(run::command(
            self.tools.clone(),
            program,
            blueprint,
            stdin,
            listeners,
            report,
        )));
        Ok(Instance::new(control, self))
    }

    async fn start_app(
        self: Arc<Self>,
        mut parts: Vec<AppPart>,
        home: Handle,
    ) -> Result<Instance, WasmError> {
        let first = parts.first_mut();
        let first = first.ok_or_else(|| WasmError::Spec("an application without programs".into()))?;
        let (account, http_address, reuse) = (
            self.account(&first.spec),
            first.spec.http_address,
            first.spec.reuse,
        );
        let inherited = std::mem::take(&mut first.spec.inherited);
        let mut ready = Vec::new();
        for part in parts {
            if part.program.kind() != ProgramKind::Http {
                let text = format!(
                    "{}: the program does not handle wasi:http requests",
                    part.spec.name
                );
                return Err(WasmError::Unsupported(text));
            }
            let made = self
                .blueprint(&part.program, part.spec, account.clone(), home.clone())
                .await?;
            ready.push((part.program, part.routes, made));
        }
        let blueprint = ready.first().map(|(_, _, blueprint)| blueprint.clone());
        let blueprint = blueprint.ok_or_else(|| WasmError::Spec("an application without programs".into()))?;
        self.serve(
            http::Site::of_parts(ready, reuse),
            &blueprint,
            http_address,
            inherited,
        )
    }

    fn account(&self, spec: &InstanceSpec) -> Arc<Account> {
        let memory_bytes_max = spec.memory_bytes_max.unwrap_or(self.tools.memory_bytes_max);
        Arc::new(Account::new(memory_bytes_max, spec.cpu_millis_max))
    }

    /// What a program's instances are made from, checked.
    async fn blueprint(
        &self,
        program: &Program,
        mut spec: InstanceSpec,
        account: Arc<Account>,
        home: Handle,
    ) -> Result<Arc<Blueprint>, WasmError> {
        let tools = &self.tools;
        check(tools, program, &spec)?;
        let wanted = std::mem::take(&mut spec.mounts);
        let scratch = tools.scratch.clone();
        let mounts = tokio::task::spawn_blocking(move || Mounts::prepare(&wanted, &scratch)).await;
        let mounts = mounts.map_err(|_| WasmError::Closed)??;
        let sockets = Sockets::new(spec.network.clone(), tools.ports.clone(), home);
        let sockets = sockets.limited(spec.allowed_hosts.take());
        let outbound = Outbound::new(sockets.clone(), tools.tls.clone());
        let blueprint = Blueprint::new(spec, mounts, sockets, outbound, account);
        // Mounts that cannot be opened are told now, not by the first request.
        blueprint.check_mounts()?;
        Ok(Arc::new(blueprint))
    }

    /// Serves programs at an address of the blueprint's network.
    fn serve(
        self: Arc<Self>,
        site: http::Site,
        blueprint: &Blueprint,
        address: Option<SocketAddr>,
        mut inherited: Vec<TcpListener>,
    ) -> Result<Instance, WasmError> {
        let address = address
            .ok_or_else(|| WasmError::Spec("a wasi:http program needs an address to listen on".into()))?;
        let listener = Arc::new(listen(&blueprint.sockets, address, &mut inherited)?);
        let control = Arc::new(Control::new(blueprint, Some(&listener)));
        let report = Report(control.clone());
        let (tools, name) = (self.tools.clone(), blueprint.name.clone());
        let server = http::Server::new(tools, site, name, &listener, &control);
        blueprint.sockets.introduce(listener.bound(), &server);
        drop(tokio::spawn(server.run(listener, report)));
        Ok(Instance::new(control, self))
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

async fn read(source: Source<'_>) -> Result<Bytes, WasmError> {
    let path = match source {
        Source::Bytes(bytes) => return Ok(bytes),
        Source::File(path) => path,
    };
    let failed = |source| WasmError::Io {
        context: format!("read {}", path.display()),
        source,
    };
    let length = tokio::fs::metadata(path).await.map_err(failed)?.len();
    if length > PROGRAM_BYTES_MAX as u64 {
        let most = PROGRAM_BYTES_MAX >> 20;
        return Err(WasmError::Unsupported(format!(
            "{length} bytes long, at most {most} MiB are compiled"
        )));
    }
    tokio::fs::read(path).await.map(Bytes::from).map_err(failed)
}

fn check(tools: &Tools, program: &Program, spec: &InstanceSpec) -> Result<(), WasmError> {
    if !Engine::same(&tools.base.engine, program.engine()) {
        return Err(WasmError::Spec("the program was compiled by another host".into()));
    }
    let texts = spec
        .args
        .iter()
        .chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if texts.into_iter().any(|text| text.contains('\0')) {
        return Err(WasmError::Spec(
            "an argument or environment variable contains a zero byte".into(),
        ));
    }
    Ok(())
}
