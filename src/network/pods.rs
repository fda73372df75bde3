//! Pods' namespaces, links and addresses.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use crate::config::{NetworkConfig, NetworkError};

/// Whose network namespace a pod lives in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PodNetKind {
    /// Its own: pods with an OCI container.
    Own,
    /// The node's shared one: pods of Wasm containers only.
    Shared,
}

/// A pod's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodLink {
    /// The pod's address.
    pub ip: IpAddr,
    /// The pod's own namespace; None if it lives in the shared one.
    pub netns: Option<PathBuf>,
    /// What stands for 127.0.0.1: itself in an own namespace, else an address
    /// of 127/8 that no other pod has.
    pub loopback: Ipv4Addr,
}

/// The network of this node's pods. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct PodNetwork {}

impl PodNetwork {
    /// Prepares the host: shared namespace and its link, routes, settings,
    /// masquerading. Takes over what a killed predecessor left.
    pub async fn open(config: NetworkConfig) -> Result<PodNetwork, NetworkError> {
        todo!()
    }

    /// Connects a pod. Idempotent per `pod_uid`: the same pod keeps its
    /// address, also when the process was restarted meanwhile. `wanted` is
    /// given to a pod that is not known yet, if nobody has it.
    pub async fn attach(
        &self,
        pod_uid: &str,
        kind: PodNetKind,
        wanted: Option<IpAddr>,
    ) -> Result<PodLink, NetworkError> {
        todo!()
    }

    /// Disconnects a pod and frees its address. Unknown pods are not an error.
    pub async fn detach(&self, pod_uid: &str) -> Result<(), NetworkError> {
        todo!()
    }

    /// The uids of all connected pods, for finding those that ended while the
    /// process was away.
    pub async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        todo!()
    }

    /// Where the shared namespace is mounted; `sys::netns::enter` it.
    pub fn shared_netns(&self) -> &Path {
        todo!()
    }

    /// Removes every pod's connection, the shared namespace and all else that
    /// was made on the host, like [`crate::cleanup`].
    pub async fn teardown_all(&self) -> Result<(), NetworkError> {
        todo!()
    }
}
