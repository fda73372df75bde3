//! What the two ends of the connection between a server and an agent agree on.
//! The agent dials and then serves HTTP/2 on it, in the same process it is
//! called directly; these names and bytes are the same either way.

pub mod frames;

/// The protocol that an agent asks for in `Upgrade`.
pub const PROTOCOL: &str = "coracle-agent";

/// The annotation of a Node, and of its request for a certificate, that tells one machine from another
/// of the same name.
pub const INSTANCE: &str = "coracle.dev/instance-id";

/// The path, before the address, on which an agent opens a TCP connection for its server: request and
/// answer bodies are what goes there and what comes back.
pub const DIAL: &str = "dial";

/// The path below which an agent answers for the node itself.
pub const NODE: &str = "node";
