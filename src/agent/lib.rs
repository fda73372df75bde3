//! The node agent.
pub mod config;
pub mod context;
mod disk;
pub mod env;
mod files;
pub mod logs;
pub mod moment;
pub mod node;
pub mod objects;
pub mod paths;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod server;
#[cfg(test)]
mod testing;
pub mod volumes;
mod wiring;
