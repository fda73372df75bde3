//! The node for which is planned.

use std::net::IpAddr;

use sys::nft::Family;

/// What the plan depends on besides the Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// This node.
    pub node_name: String,
    /// The zone that it says it is in (`topology.kubernetes.io/zone`).
    pub zone: Option<String>,
    /// The cluster's DNS, which every node answers by itself: never balanced.
    pub dns_ips: Vec<IpAddr>,
    /// The families that Services may have.
    pub families: Vec<Family>,
}
