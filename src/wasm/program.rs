//! A compiled program and the kinds there are.

use crate::WasmError;
use crate::code::Code;
use crate::detect::{link_error, link_text};
use crate::engine::Base;
use crate::interfaces::{self, Wanted};
use crate::preview1;
use crate::state::{ModuleState, State};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use wasmtime::component::{Component, InstancePre, Linker};
use wasmtime::{Engine, Module};
use wasmtime_wasi::p2::bindings::CommandPre;
use wasmtime_wasi_http::p2::bindings::ProxyPre;

/// What a program is, found from its own imports and exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProgramKind {
    /// A core module with `_start` (WASI preview 1).
    Module,
    /// A component that exports `wasi:cli/run`.
    Command,
    /// A component that exports `wasi:http/incoming-handler`.
    Http,
    /// A component that does nothing by itself: other programs of its pod call what it exports.
    Library,
}

/// A compiled program, ready to be started any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) digest: String,
    pub(crate) ready: Ready,
    /// How long it was compiled for, until somebody is told; nothing if it came from the cache.
    compiled_us: AtomicU64,
}

/// Compiled and linked.
pub(crate) enum Ready {
    Module(wasmtime::InstancePre<ModuleState>),
    Command(CommandPre<State>),
    Http(ProxyPre<State>),
    Library(InstancePre<State>),
    /// Not linked: it imports what other programs of its pod may export.
    Unbound(Unbound),
}

/// A component whose imports are not all the host's.
pub(crate) struct Unbound {
    component: Component,
    kind: ProgramKind,
    pub(crate) wanted: Vec<Arc<Wanted>>,
    /// What is said of it where nobody exports that.
    pub(crate) refusal: String,
}

impl Program {
    /// What sort of program it is.
    pub fn kind(&self) -> ProgramKind {
        match &self.inner.ready {
            Ready::Module(_) => ProgramKind::Module,
            Ready::Command(_) => ProgramKind::Command,
            Ready::Http(_) => ProgramKind::Http,
            Ready::Library(_) => ProgramKind::Library,
            Ready::Unbound(unbound) => unbound.kind,
        }
    }

    /// Whether it is a core module that accepts connections on sockets that it is given.
    pub fn accepts(&self) -> bool {
        match &self.inner.ready {
            Ready::Module(pre) => preview1::accepts(pre.module()),
            _ => false,
        }
    }

    /// How long it was compiled for, if that was now. Told once.
    pub fn take_compile_time(&self) -> Option<Duration> {
        let micros = self.inner.compiled_us.swap(0, Relaxed);
        (micros > 0).then(|| Duration::from_micros(micros))
    }

    pub(crate) fn note_compile_time(&self, took: Duration) {
        self.inner.compiled_us.store(took.as_micros() as u64, Relaxed);
    }

    /// The digest it was compiled under.
    pub fn digest(&self) -> &str {
        &self.inner.digest
    }

    /// The engine it was compiled by.
    pub(crate) fn engine(&self) -> &Engine {
        match &self.inner.ready {
            Ready::Module(pre) => pre.module().engine(),
            Ready::Command(pre) => pre.engine(),
            Ready::Http(pre) => pre.engine(),
            Ready::Library(pre) => pre.engine(),
            Ready::Unbound(unbound) => unbound.component.engine(),
        }
    }

    /// The component, if it is one.
    pub(crate) fn component(&self) -> Option<&Component> {
        match &self.inner.ready {
            Ready::Unbound(unbound) => Some(&unbound.component),
            _ => self.instance_pre().map(InstancePre::component),
        }
    }

    /// What instances of the component are made from, once its imports have been found.
    pub(crate) fn instance_pre(&self) -> Option<&InstancePre<State>> {
        match &self.inner.ready {
            Ready::Module(_) | Ready::Unbound(_) => None,
            Ready::Command(pre) => Some(pre.instance_pre()),
            Ready::Http(pre) => Some(pre.instance_pre()),
            Ready::Library(pre) => Some(pre),
        }
    }

    /// Whether other programs could call something that it exports.
    pub(crate) fn exports(&self) -> bool {
        let exports = |component| !interfaces::exports(self.engine(), component).is_empty();
        self.component().is_some_and(exports)
    }

    /// What it still lacks of other programs of its pod, if it lacks anything.
    pub(crate) fn unbound(&self) -> Option<&Unbound> {
        match &self.inner.ready {
            Ready::Unbound(unbound) => Some(unbound),
            _ => None,
        }
    }

    /// The program with what it lacked, which `link` puts where it looks for that.
    pub(crate) fn bound(
        &self,
        base: &Base,
        unbound: &Unbound,
        link: impl FnOnce(&mut Linker<State>) -> wasmtime::Result<()>,
    ) -> Result<Program, WasmError> {
        let mut linker = base.components.clone();
        let pre = link(&mut linker).and_then(|()| linker.instantiate_pre(&unbound.component));
        let ready = pre.and_then(|pre| ready(unbound.kind, pre));
        Ok(Program {
            inner: Arc::new(Inner {
                digest: self.inner.digest.clone(),
                ready: ready.map_err(|error| link_error(&error))?,
                compiled_us: AtomicU64::new(0),
            }),
        })
    }

    /// Finds out what the code is for and connects it with the host.
    pub(crate) fn link(base: &Base, digest: &str, code: Code) -> Result<Program, WasmError> {
        let ready = match code {
            Code::Module(module) => link_module(base, &module)?,
            Code::Component(component) => link_component(base, &component)?,
        };
        Ok(Program {
            inner: Arc::new(Inner {
                digest: digest.into(),
                ready,
                compiled_us: AtomicU64::new(0),
            }),
        })
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Program")
            .field("kind", &self.kind())
            .field("digest", &self.digest())
            .finish()
    }
}

fn link_module(base: &Base, module: &Module) -> Result<Ready, WasmError> {
    let is_start = |export: wasmtime::ExternType| {
        export
            .func()
            .is_some_and(|func| func.params().len() == 0 && func.results().len() == 0)
    };
    if !module.get_export("_start").is_some_and(is_start) {
        return Err(WasmError::Unsupported(format!(
            "the core module has no function `_start`, so it is a library and not a command; its exports: {}",
            list(module.exports().map(|export| export.name()))
        )));
    }
    let linker = match preview1::accepts(module) {
        true => &base.accepting,
        false => &base.modules,
    };
    linker
        .instantiate_pre(module)
        .map(Ready::Module)
        .map_err(|error| link_error(&error))
}

fn link_component(base: &Base, component: &Component) -> Result<Ready, WasmError> {
    let kind = kind(&base.engine, component)?;
    let error = match base.components.instantiate_pre(component) {
        Ok(pre) => return ready(kind, pre).map_err(|error| link_error(&error)),
        Err(error) => error,
    };
    let wanted = interfaces::imports(&base.engine, component);
    if wanted.is_empty() {
        return Err(link_error(&error));
    }
    Ok(Ready::Unbound(Unbound {
        component: component.clone(),
        kind,
        wanted: wanted.into_iter().map(Arc::new).collect(),
        refusal: link_text(&error),
    }))
}

/// What a component is for, by its exports.
fn kind(engine: &Engine, component: &Component) -> Result<ProgramKind, WasmError> {
    let kind = component.component_type();
    let names: Vec<String> = kind.exports(engine).map(|(name, _)| name.to_string()).collect();
    let exports = |interface: &str| names.iter().any(|name| name.starts_with(interface));
    if exports("wasi:http/incoming-handler@0.2") {
        return Ok(ProgramKind::Http);
    }
    if exports("wasi:cli/run@0.2") {
        return Ok(ProgramKind::Command);
    }
    let hint = if exports("wasi:http/handler@0.3") || exports("wasi:cli/run@0.3") {
        "WASI 0.3 is not offered yet, build it for WASI 0.2"
    } else if !interfaces::exports(engine, component).is_empty() {
        return Ok(ProgramKind::Library);
    } else {
        "it exports neither `wasi:cli/run` nor `wasi:http/incoming-handler` of WASI 0.2"
    };
    let found = list(names.iter().map(String::as_str));
    Err(WasmError::Unsupported(format!(
        "the component cannot be started: {hint}; its exports: {found}"
    )))
}

fn ready(kind: ProgramKind, pre: InstancePre<State>) -> wasmtime::Result<Ready> {
    match kind {
        ProgramKind::Http => ProxyPre::new(pre).map(Ready::Http),
        ProgramKind::Command => CommandPre::new(pre).map(Ready::Command),
        ProgramKind::Library | ProgramKind::Module => Ok(Ready::Library(pre)),
    }
}

/// The first few names, for an error text.
fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.take(8).collect();
    if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    }
}
