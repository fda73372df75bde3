//! What servers, nodes and the command line say to each other about the secrets of a cluster.

use serde::{Deserialize, Serialize};

/// Stands for all authorities where the name of a secret does.
pub const AUTHORITIES: &str = "authorities";

/// `POST witness`, to a witness alone: what it takes up. It answers with the generation that it has then.
pub const WITNESS: &str = "witness";

/// `GET trust`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustList {
    /// How many steps were made.
    pub generation: u64,
    /// The keys, by secret.
    pub items: Vec<TrustItem>,
    /// Servers that have not taken up the last step, a witness among them.
    pub servers: Vec<String>,
    /// Nodes that have not.
    pub nodes: Vec<String>,
}

/// One key of a secret, without what is secret of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrustItem {
    /// The secret's name.
    pub secret: String,
    /// `active`, `next` or `retiring`.
    pub state: String,
    /// The beginning of a hash of what is not secret of it.
    pub id: String,
    /// Since when it is what it is, in seconds since 1970; 0 for the beginning.
    pub since: i64,
    /// When it ends, in seconds since 1970, if it does.
    pub ends: Option<i64>,
}
