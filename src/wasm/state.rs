//! What a store holds for its guest, and what new stores are made from.

use crate::http::Outbound;
use crate::interfaces::Calls;
use crate::keyvalue::{Buckets, HasBuckets};
use crate::limits::{Account, Limiter};
use crate::logging::HasLog;
use crate::meter::Meter;
use crate::mounts::Mounts;
use crate::preview1::Table;
use crate::settings::HasSettings;
use crate::sockets::{Book, HasSockets, Heirlooms, Listener, Sockets, Traffic};
use crate::spec::{Output, Stdin};
use crate::stdio::{Sink, attach_stdin};
use crate::{InstanceSpec, WasmError};
use std::sync::Arc;
use wasmtime::component::ResourceTable;
use wasmtime::{Engine, Store};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::{WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// Most handles (files, sockets, streams, header lists) a guest may hold: each
/// costs memory of the host's, some a descriptor, that no other limit counts.
const RESOURCES_MAX: usize = 4096;

/// The same of one HTTP request: many are answered at once.
const REQUEST_RESOURCES_MAX: usize = 1024;

/// A component's side of the host.
pub(crate) struct State {
    wasi: WasiCtx,
    pub(crate) table: ResourceTable,
    book: Book,
    /// What `wasi:config` tells: the environment.
    settings: Arc<[(String, String)]>,
    /// What `wasi:logging` writes to.
    stderr: Arc<dyn Output>,
    /// What `wasi:keyvalue` opens.
    buckets: Option<Arc<dyn Buckets>>,
    /// What it uses, all its stores together.
    pub(crate) account: Arc<Account>,
    /// Calls to and from other programs.
    pub(crate) calls: Calls,
    http: WasiHttpCtx,
    outbound: Outbound,
    limiter: Limiter,
}

/// A core module's side of the host.
pub(crate) struct ModuleState {
    pub(crate) p1: WasiP1Ctx,
    pub(crate) sockets: Table,
    limiter: Limiter,
}

impl WasiView for State {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        }
    }
}

impl HasSockets for State {
    fn parts(&mut self) -> (WasiCtxView<'_>, &mut Book) {
        let wasi = WasiCtxView {
            ctx: &mut self.wasi,
            table: &mut self.table,
        };
        (wasi, &mut self.book)
    }
}

impl HasLog for State {
    fn log(&self) -> &dyn Output {
        &*self.stderr
    }
}

impl HasSettings for State {
    fn settings(&self) -> &[(String, String)] {
        &self.settings
    }
}

impl HasBuckets for State {
    fn buckets(&self) -> Option<&Arc<dyn Buckets>> {
        self.buckets.as_ref()
    }
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView {
            ctx: &mut self.http,
            table: &mut self.table,
            hooks: &mut self.outbound,
        }
    }
}

/// Everything that the stores of one instance have in common.
pub(crate) struct Blueprint {
    pub(crate) name: String,
    pub(crate) account: Arc<Account>,
    pub(crate) sockets: Sockets,
    pub(crate) traffic: Arc<Traffic>,
    /// Listening sockets that an earlier run has left.
    pub(crate) heirlooms: Arc<Heirlooms>,
    stderr: Arc<dyn Output>,
    args: Vec<String>,
    env: Arc<[(String, String)]>,
    mounts: Mounts,
    stdout: Arc<dyn Output>,
    buckets: Option<Arc<dyn Buckets>>,
    outbound: Outbound,
}

impl Blueprint {
    /// Takes a specification apart. Blueprints that share an account share its limits.
    pub(crate) fn new(
        spec: InstanceSpec,
        mounts: Mounts,
        sockets: Sockets,
        outbound: Outbound,
        account: Arc<Account>,
    ) -> Blueprint {
        Blueprint {
            name: spec.name,
            account,
            sockets,
            traffic: Arc::default(),
            heirlooms: Arc::new(Heirlooms::new(spec.inherited)),
            stderr: spec.stderr,
            args: spec.args,
            env: spec.env.into(),
            mounts,
            stdout: spec.stdout,
            buckets: spec.buckets,
            outbound,
        }
    }

    /// Tells the guest's own log what the host has to say about it.
    pub(crate) fn tell(&self, message: &str) {
        if !message.is_empty() {
            self.stderr.write(format!("{message}\n").as_bytes());
        }
    }

    /// Tries whether the mounts can be opened.
    pub(crate) fn check_mounts(&self) -> Result<(), WasmError> {
        self.mounts.attach(&mut WasiCtx::builder())
    }

    /// A store for a command.
    pub(crate) fn command(&self, engine: &Engine, stdin: Stdin) -> Result<(Store<State>, Meter), WasmError> {
        self.component(engine, stdin, RESOURCES_MAX)
    }

    /// A store for a handler of HTTP requests.
    pub(crate) fn handler(&self, engine: &Engine) -> Result<(Store<State>, Meter), WasmError> {
        self.component(engine, Stdin::None, REQUEST_RESOURCES_MAX)
    }

    fn component(
        &self,
        engine: &Engine,
        stdin: Stdin,
        resources_max: usize,
    ) -> Result<(Store<State>, Meter), WasmError> {
        let mut table = ResourceTable::new();
        table.set_max_capacity(resources_max);
        let state = State {
            wasi: self.wasi(stdin, 0)?.build(),
            table,
            book: Book::new(self.sockets.clone(), self.traffic.clone(), self.heirlooms.clone()),
            settings: self.env.clone(),
            stderr: self.stderr.clone(),
            buckets: self.buckets.clone(),
            account: self.account.clone(),
            calls: Calls::default(),
            http: WasiHttpCtx::new(),
            outbound: self.outbound.clone(),
            limiter: Limiter::new(self.account.clone()),
        };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        let meter = Meter::new(self.account.clone());
        meter.attach(&mut store);
        Ok((store, meter))
    }

    /// A store for a core module that may have listening sockets.
    pub(crate) fn module(
        &self,
        engine: &Engine,
        stdin: Stdin,
        listeners: Vec<Listener>,
    ) -> Result<(Store<ModuleState>, Meter), WasmError> {
        let limiter = Limiter::new(self.account.clone());
        let mut p1 = self.wasi(stdin, listeners.len())?.build_p1();
        p1.ctx().table.set_max_capacity(RESOURCES_MAX);
        let sockets = Table::new(listeners, self.traffic.clone());
        let state = ModuleState { p1, sockets, limiter };
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        let meter = Meter::new(self.account.clone());
        meter.attach(&mut store);
        Ok((store, meter))
    }

    fn wasi(&self, stdin: Stdin, reserved: usize) -> Result<WasiCtxBuilder, WasmError> {
        let mut builder = WasiCtx::builder();
        builder.args(&self.args).envs(&self.env);
        builder
            .stdout(Sink(self.stdout.clone()))
            .stderr(Sink(self.stderr.clone()));
        attach_stdin(&mut builder, stdin);
        Mounts::reserve(&mut builder, reserved)?;
        self.mounts.attach(&mut builder)?;
        // Which addresses may be used is decided in `sockets`, before
        // wasmtime-wasi hears of them.
        builder
            .allow_tcp(true)
            .allow_udp(true)
            .socket_addr_check(|_, _| Box::pin(async { true }));
        Ok(builder)
    }
}
