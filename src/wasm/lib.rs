//! A host for WebAssembly programs: core modules, `wasi:cli` commands and
//! `wasi:http` handlers run inside this process, each with its own address,
//! files, environment and limits.
//!
//! The crate knows nothing of pods or clusters and runs as an ordinary user;
//! see `examples/hello.rs`.

mod allowed;
mod cache;
mod code;
mod compiler;
mod control;
mod detect;
mod engine;
mod error;
mod exit;
mod host;
mod http;
mod idle;
mod instance;
mod interfaces;
mod keyvalue;
mod limits;
mod logging;
mod meter;
mod mounts;
mod neighbours;
mod network;
mod preview1;
mod program;
mod run;
mod settings;
mod sockets;
mod spec;
mod state;
mod stdio;
mod ticker;
mod tools;

pub use allowed::AllowedHosts;
pub use compiler::{Compiler, VERB as COMPILE_VERB, compile_main};
pub use error::WasmError;
pub use exit::{Exit, ExitReason};
pub use host::{AppPart, Host, HostConfig};
pub use instance::Instance;
pub use interfaces::{Absent, Interfaces, Membership};
pub use keyvalue::{Bucket, Buckets, Edit, KeyValueError, Values};
pub use limits::Usage;
pub use neighbours::Neighbours;
pub use network::{HostNetwork, Network, Protocol, ResolveError};
pub use program::{Program, ProgramKind};
pub use spec::{InstanceSpec, ListenAt, MemoryOutput, Mount, Output, Stdin, discard, memory_output};
