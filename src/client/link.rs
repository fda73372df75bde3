//! What the two ends of the connection between a server and an agent agree on.
//! The agent dials and then serves HTTP/2 on it, in the same process it is
//! called directly; these names and bytes are the same either way.

pub mod frames;

/// The protocol that an agent asks for in `Upgrade`.
pub const PROTOCOL: &str = "coracle-agent";
