//! Services and their endpoints, kept in memory for the load balancer and DNS.

use base::Tasks;
use client::Client;

/// The cluster's Services and EndpointSlices as this node knows them. Cheap
/// to clone; all clones are the same catalog.
#[derive(Clone)]
pub struct Catalog {}

impl Catalog {
    /// Follows Services and EndpointSlices from now on.
    pub fn start(client: &Client, tasks: &Tasks) -> Catalog {
        todo!()
    }

    /// Waits until both have been listed once.
    pub async fn synced(&self) {
        todo!()
    }
}
