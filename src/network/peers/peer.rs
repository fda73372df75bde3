//! Another node, and how packets for its pods travel.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use api::cidr::Ranges;
use serde::{Deserialize, Serialize};

/// How packets for pods of other nodes travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodRouting {
    /// By routes where nodes have a network in common, elsewhere by vxlan.
    #[default]
    Auto,
    /// By routes only: whatever lies between nodes knows the way to pods.
    Routes,
    /// By vxlan only.
    Vxlan,
}

impl fmt::Display for PodRouting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PodRouting::Auto => "auto",
            PodRouting::Routes => "routes",
            PodRouting::Vxlan => "vxlan",
        })
    }
}

impl FromStr for PodRouting {
    type Err = String;

    fn from_str(text: &str) -> Result<PodRouting, String> {
        match text {
            "auto" => Ok(PodRouting::Auto),
            "routes" => Ok(PodRouting::Routes),
            "vxlan" => Ok(PodRouting::Vxlan),
            _ => Err(format!("{text:?} is not auto, routes or vxlan")),
        }
    }
}

/// Another node as far as the way to its pods depends on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its pods' addresses.
    pub ranges: Ranges,
    /// Where it can be reached itself, one per family at most.
    pub addresses: Vec<IpAddr>,
    /// How it wants packets to travel.
    pub routing: PodRouting,
}
