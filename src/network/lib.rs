//! A node's network: addresses for pods, their links, Services and DNS.
//!
//! Decisions are pure ([`ipam`], [`plan`]); what touches the
//! kernel goes through `sys` and carries the instance id in its name, so that
//! [`cleanup()`] finds what is ours and several nodes share a machine.

pub mod announce;
pub mod catalog;
pub mod cleanup;
pub mod config;
pub mod dns;
pub mod ipam;
mod names;
pub mod peers;
pub mod plan;
pub mod pods;
pub mod services;

pub use api::cidr::{Addresses, Cidr, Ranges};
pub use catalog::Catalog;
pub use cleanup::cleanup;
pub use config::{NetworkConfig, NetworkError};
pub use dns::{Dns, ResolveError};
pub use peers::PodRouting;
pub use plan::{HostPort, Protocol};
pub use pods::{PodLink, PodNetKind, PodNetwork};
pub use services::{Balancer, ServiceProxy, Services};

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod live;
