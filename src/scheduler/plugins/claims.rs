//! A pod with claims of devices (Dynamic Resource Allocation) waits for them. Nobody allocates any here, so it waits
//! for ever; it would otherwise run without what it asks for.

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const REASON: &str = "cannot allocate all claims";

pub(super) struct DynamicResources;

impl Plugin for DynamicResources {
    fn name(&self) -> &'static str {
        "DynamicResources"
    }

    fn refuse(&self, pod: &PodInfo, _all: &Snapshot) -> Option<Refusal> {
        let status = pod.pod.status.as_ref();
        let made: Vec<&str> = status
            .and_then(|status| status.resource_claim_statuses.as_ref())
            .into_iter()
            .flatten()
            .map(|claim| claim.name.as_str())
            .collect();
        let mut claims = pod.spec().resource_claims.iter().flatten();
        let awaited = claims.any(|claim| {
            claim.resource_claim_template_name.is_some() && !made.contains(&claim.name.as_str())
        });
        let name = pod.pod.metadata.name.as_deref().unwrap_or_default();
        awaited.then(|| format!("pod \"{}/{name}\": ResourceClaim not created yet", pod.namespace))
    }

    fn filter(&self, pod: &PodInfo, _node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        let claims = pod.spec().resource_claims.iter().flatten();
        claims.take(1).map(|_| REASON.to_owned()).collect()
    }
}
