//! Coracle: Kubernetes' API in one small binary, for containers and Wasm at
//! the edge; and, as this library, in your own program.
//!
//! [`Node::start`] runs what the binary's `up`, `server` and `agent` run, on
//! the caller's tokio runtime. [`Node::client`] speaks to it without a network
//! in between.

pub mod cli;
pub mod config;
pub mod folder;
pub mod node;

pub use config::{Addresses, Cidr, Config, Listen, PodRouting, Ranges};
pub use node::{Node, Role};
