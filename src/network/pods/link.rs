//! How a pod is connected.

use std::net::IpAddr;
use std::path::PathBuf;

use api::cidr::Addresses;
use serde::{Deserialize, Serialize};

/// Whose network namespace a pod lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodNetKind {
    /// Its own: pods with an OCI container.
    Own,
    /// The node's shared one: pods of Wasm containers only.
    Shared,
}

/// A pod's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// The pod's addresses, one per family.
    pub ips: Addresses,
    /// The pod's own namespace; None if it lives in the shared one.
    pub netns: Option<PathBuf>,
    /// What stands for 127.0.0.1, and for ::1 where there is IPv6: these
    /// themselves in an own namespace, else addresses that no other pod has.
    pub loopback: Addresses,
}

impl PodLink {
    /// The pod's address of the primary family.
    pub fn ip(&self) -> IpAddr {
        self.ips.primary()
    }
}
