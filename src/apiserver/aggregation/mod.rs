//! Servers that extend the API: whatever APIServices hand to a Service of the cluster.
//!
//! ```text
//! APIServices ─ Mirror ─▶ Table ─▶ who serves a group version ─▶ forward.rs ─▶ that server
//!                           │
//!             tend.rs ──────┼─▶ availability.rs (pure) ─▶ condition Available, by whoever leads
//!                           └─▶ Documents: what that server says it serves, merged into
//!                               discovery.rs and openapi.rs (pure)
//! ```
//!
//! An APIService with a Service takes its group version over, also one that this server would serve itself. Requests
//! are authenticated and authorised here first, and go on with the user's name in their headers, over a connection
//! that this server's front-proxy certificate vouches for.

pub mod availability;
pub mod discovery;
mod forward;
mod identity;
pub mod openapi;
mod others;
mod remote;
mod tend;

use std::sync::Arc;

use base::Clock;
use base::telemetry::Metrics;

pub use others::{Documents, Others, Shown};
pub use remote::Remote;

use crate::lookup::Lookup;
use crate::metrics::Extensions;
use crate::outbound::Outbound;
use crate::pki::Pki;
use identity::Identity;

/// The way to those who extend the API.
pub struct Aggregation {
    others: Arc<Others>,
    outbound: Outbound,
    lookup: Arc<dyn Lookup>,
    identity: Identity,
    clock: Arc<dyn Clock>,
    series: Extensions,
}

impl Aggregation {
    /// They are reached through `outbound`, their Services known from `lookup`.
    pub fn new(
        others: Arc<Others>,
        outbound: Outbound,
        lookup: Arc<dyn Lookup>,
        pki: Arc<Pki>,
        clock: Arc<dyn Clock>,
        metrics: &Metrics,
    ) -> Self {
        Self {
            others,
            outbound,
            lookup,
            identity: Identity::new(pki),
            clock,
            series: Extensions::new(metrics),
        }
    }

    /// Who they are, and what they serve.
    pub fn others(&self) -> &Arc<Others> {
        &self.others
    }
}
