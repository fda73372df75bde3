//! What those who are asked about a request need of the server.

use api::kind::KindRef;

use crate::admission::World;
use crate::admission::metrics::AdmissionMetrics;
use crate::outbound::Outbound;
use crate::served::ServedKinds;

/// What is around a request. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Around<'a> {
    /// Calls webhooks.
    pub outbound: &'a Outbound,
    /// What is served.
    pub kinds: &'a ServedKinds,
    /// What is stored, and who may do what.
    pub world: &'a dyn World,
    /// The other versions in which the request's resource is served.
    pub others: &'a [KindRef],
    /// What is counted.
    pub metrics: &'a AdmissionMetrics,
}
