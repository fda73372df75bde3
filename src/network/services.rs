//! Services: the plan carried out in the kernel and at guests' sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use base::Tasks;

use crate::catalog::Catalog;
use crate::config::{NetworkConfig, NetworkError};
use crate::plan::Protocol;

/// The node's service load balancer.
#[derive(Clone)]
pub struct Services {}

impl Services {
    /// Starts following the catalog; returns at once. The kernel's table is
    /// replaced in one step when the catalog is complete, so that a
    /// predecessor's rules serve until then.
    pub fn start(catalog: &Catalog, config: &NetworkConfig, tasks: &Tasks) -> Result<Services, NetworkError> {
        todo!()
    }

    /// Waits until the first complete table is in the kernel.
    pub async fn ready(&self) {
        todo!()
    }

    /// The same plan for sockets of Wasm guests.
    pub fn balancer(&self) -> Arc<Balancer> {
        todo!()
    }
}

/// Chooses endpoints for sockets that never meet the kernel's rules.
#[derive(Debug)]
pub struct Balancer {}

impl Balancer {
    /// One ready endpoint of the Service at `destination`, or `destination`
    /// itself if that is no Service or has no endpoint (the host then refuses
    /// the connection).
    pub fn pick(&self, destination: SocketAddr, protocol: Protocol) -> SocketAddr {
        todo!()
    }
}
