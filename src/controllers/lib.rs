//! The loops that make the cluster what its objects say.
//!
//! A controller is a pure function, [`Reconciler::reconcile`]: it is given
//! the key of one object, a [`View`] of the cluster and the time, and returns
//! a [`Plan`] of writes. The [`harness`] owns everything else: queue,
//! back-off, carrying out plans, and waiting until the caches show what was
//! written before the same key is looked at again.

mod bootstrap_tokens;
mod csr_cleaner;
pub mod custom;
pub mod deployment;
pub mod disruption;
pub mod endpoints;
pub mod endpointslice;
pub mod endpointslice_mirroring;
mod finalizers;
pub mod garbage;
pub mod harness;
mod legacy_tokens;
pub mod load_balancer;
pub mod namespace;
pub mod node_ipam;
pub mod node_lifecycle;
pub mod plan;
pub mod pod_garbage;
mod pods;
pub mod replicaset;
pub mod replicating;
mod replication_controller;
pub mod root_ca;
pub mod scales;
pub mod service_account;
mod slices;
pub mod snapshots;
mod start;
pub mod taint_eviction;
pub mod view;
mod volumes;

pub use harness::{Reconciler, Surroundings};
pub use plan::{Key, Plan, Write};
pub use start::{Settings, start};
pub use view::View;
