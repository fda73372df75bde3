//! The node agent: runs the pods assigned to this machine, ordinary containers
//! and WebAssembly side by side, and tells the API how they do.
//!
//! What is to be done about a pod is decided by a pure function
//! ([`pods::decide`]) from its spec and what is known of it
//! ([`pods::state`]); one worker task per pod has it done. Containers run in
//! one of three [`runtime`]s, chosen by what their image holds.
//!
//! **Invariants.** Only a pod's worker changes its state. A container that
//! outlived the agent is never restarted because of that. Nothing waits for
//! the API server but what needs it: a node that starts without one runs the
//! pods it has on disk.

mod agent;
mod authorities;
mod certificate;
pub mod config;
pub mod context;
pub mod cpus;
pub mod csi;
pub mod devices;
mod disk;
pub mod env;
pub mod eviction;
mod files;
mod fill;
mod handover;
mod huge_pages;
mod image_gc;
pub mod join;
pub mod keyvalue;
pub mod logs;
pub mod moment;
pub mod node;
pub mod objects;
pub mod paths;
pub mod pods;
pub mod probes;
pub mod providers;
pub mod renewal;
pub mod runtime;
pub mod server;
pub mod servers;
pub mod static_pods;
pub mod stats;
#[cfg(test)]
mod testing;
pub mod users;
pub mod volumes;
mod wiring;

pub use agent::{Agent, AgentError, teardown};
pub use certificate::Certificate;
pub use config::{AgentConfig, ImageSettings, Limits, ShutdownGrace, Timing};
pub use cpus::CpuSet;
pub use eviction::Thresholds;
/// What this program is when an agent that ends starts it to hold its guests' sockets for the next one.
pub use handover::{HOLD_VERB, hold_main};
pub use join::{JoinConfig, JoinError};
pub use pods::effects::access::Verification;
pub use server::LinkService;
/// What this program is when a node starts it to compile a Wasm program.
pub use wasm::{COMPILE_VERB, compile_main};
