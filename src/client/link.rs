//! What the two ends of the connection between a server and an agent agree on.
//! The agent dials and then serves HTTP/2 on it, in the same process it is
//! called directly; these names and bytes are the same either way.

pub mod frames;

use serde::{Deserialize, Serialize};

/// The protocol that an agent asks for in `Upgrade`.
pub const PROTOCOL: &str = "coracle-agent";

/// The annotation of a Node, and of its request for a certificate, that tells one machine from another
/// of the same name.
pub const INSTANCE: &str = "coracle.dev/instance-id";

/// The annotation of a Node that says which generation of the cluster's authorities it has taken up.
pub const TRUST_ANNOTATION: &str = "coracle.dev/trust-generation";

/// Where a server tells whom to trust.
pub const AUTHORITIES_PATH: &str = "/apis/coracle.dev/v1/authorities";

/// What it tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// Counts the changes; 0 before the first.
    pub generation: u64,
    /// Those who sign servers' certificates, PEM: the one that does so now first.
    pub serving: String,
    /// Those who sign clients' certificates, likewise.
    pub clients: String,
}

/// The path, before the address, on which an agent opens a TCP connection for its server: request and
/// answer bodies are what goes there and what comes back.
pub const DIAL: &str = "dial";

/// The path below which an agent answers for the node itself.
pub const NODE: &str = "node";
