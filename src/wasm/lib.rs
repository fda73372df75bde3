//! A host for WebAssembly programs: core modules, `wasi:cli` commands and
//! `wasi:http` handlers run inside this process, each with its own address,
//! files, environment and limits.
//!
//! The crate knows nothing of pods or clusters and runs as an ordinary user;
//! see `examples/hello.rs`.

mod error;
mod exit;
mod host;
mod instance;
mod network;
mod program;
mod spec;

pub use error::WasmError;
pub use exit::{Exit, ExitReason, Usage};
pub use host::{Host, HostConfig};
pub use instance::Instance;
pub use network::{HostNetwork, Network, Protocol, ResolveError};
pub use program::{Program, ProgramKind};
pub use spec::{InstanceSpec, MemoryOutput, Mount, Output, Stdin, discard, memory_output};
