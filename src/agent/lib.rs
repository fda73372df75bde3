//! The node agent.
pub mod config;
mod disk;
pub mod env;
pub mod logs;
pub mod moment;
pub mod objects;
pub mod paths;
pub mod pods;
pub mod probes;
pub mod runtime;
pub mod volumes;
