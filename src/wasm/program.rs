//! A compiled program and the kinds there are.

use crate::WasmError;
use crate::detect::link_error;
use crate::engine::Base;
use crate::preview1;
use crate::state::{ModuleState, State};
use std::sync::Arc;
use wasmtime::component::Component;
use wasmtime::{Engine, InstancePre, Module};
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
}

/// A compiled program, ready to be started any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Program {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) digest: String,
    pub(crate) ready: Ready,
}

/// Compiled, not yet linked.
pub(crate) enum Code {
    Module(Module),
    Component(Component),
}

/// Compiled and linked.
pub(crate) enum Ready {
    Module(InstancePre<ModuleState>),
    Command(CommandPre<State>),
    Http(ProxyPre<State>),
}

impl Program {
    /// What sort of program it is.
    pub fn kind(&self) -> ProgramKind {
        match self.inner.ready {
            Ready::Module(_) => ProgramKind::Module,
            Ready::Command(_) => ProgramKind::Command,
            Ready::Http(_) => ProgramKind::Http,
        }
    }

    /// Whether it is a core module that accepts connections on sockets that it is given.
    pub fn accepts(&self) -> bool {
        match &self.inner.ready {
            Ready::Module(pre) => preview1::accepts(pre.module()),
            Ready::Command(_) | Ready::Http(_) => false,
        }
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
        }
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
    let kind = component.component_type();
    let names: Vec<String> = kind
        .exports(&base.engine)
        .map(|(name, _)| name.to_string())
        .collect();
    let exports = |interface: &str| names.iter().any(|name| name.starts_with(interface));
    let is_http = exports("wasi:http/incoming-handler@0.2");
    if !is_http && !exports("wasi:cli/run@0.2") {
        let hint = if exports("wasi:http/handler@0.3") || exports("wasi:cli/run@0.3") {
            "WASI 0.3 is not offered yet, build it for WASI 0.2"
        } else {
            "it exports neither `wasi:cli/run` nor `wasi:http/incoming-handler` of WASI 0.2"
        };
        let found = list(names.iter().map(String::as_str));
        return Err(WasmError::Unsupported(format!(
            "the component cannot be started: {hint}; its exports: {found}"
        )));
    }
    let pre = base
        .components
        .instantiate_pre(component)
        .map_err(|error| link_error(&error))?;
    let ready = if is_http {
        ProxyPre::new(pre).map(Ready::Http)
    } else {
        CommandPre::new(pre).map(Ready::Command)
    };
    ready.map_err(|error| link_error(&error))
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
