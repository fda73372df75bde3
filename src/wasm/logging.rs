//! `wasi:logging`: lines of the container's log, with a level and a context before them.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::Output;

/// The interface is a proposal still; these are the names under which programs were made for it.
const INTERFACES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

#[derive(Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// How levels are written.
const NAMES: [(Level, &str); 6] = [
    (Level::Trace, "TRACE"),
    (Level::Debug, "DEBUG"),
    (Level::Info, "INFO"),
    (Level::Warn, "WARN"),
    (Level::Error, "ERROR"),
    (Level::Critical, "CRITICAL"),
];

/// A guest that has a log.
pub(crate) trait HasLog: 'static {
    /// Where its lines go.
    fn log(&self) -> &dyn Output;
}

pub(crate) fn add_to_linker<T: HasLog>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    for name in INTERFACES {
        linker.instance(name)?.func_wrap("log", log)?;
    }
    Ok(())
}

fn log<T: HasLog>(
    store: StoreContextMut<'_, T>,
    (level, context, message): (Level, String, String),
) -> wasmtime::Result<()> {
    let context = if context.is_empty() {
        context
    } else {
        format!("{context}: ")
    };
    let mut names = NAMES.iter().filter(|(one, _)| *one == level);
    let name = names.next().map_or("", |(_, name)| name);
    let line = format!("{name} {context}{}\n", message.trim_end_matches('\n'));
    store.data().log().write(line.as_bytes());
    Ok(())
}
