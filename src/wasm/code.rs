//! A program that is compiled, and not yet linked.

use wasmtime::Module;
use wasmtime::component::Component;

/// What comes from the compiler, or from the cache.
pub(crate) enum Code {
    Module(Module),
    Component(Component),
}
