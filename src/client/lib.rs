//! How everything but the API server talks to the API.
//!
//! [`Api`] is the door: [`Client`] speaks through it, whether it leads into
//! the same process or over TLS to another machine.

pub mod door;

pub use door::{Api, ApiRef};
