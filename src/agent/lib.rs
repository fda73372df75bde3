//! The node agent.
pub mod config;
pub mod moment;
pub mod pods;
