//! A claim that one pod may use is used by one pod.

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const REASON: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

pub(super) struct VolumeRestrictions;

impl Plugin for VolumeRestrictions {
    fn name(&self) -> &'static str {
        "VolumeRestrictions"
    }

    fn filter(&self, pod: &PodInfo, _node: &NodeInfo, all: &Snapshot) -> Vec<Refusal> {
        let claims = api::storage::claims_of(&pod.pod).map(|(name, _)| name);
        let alone: Vec<String> = claims
            .filter(|name| {
                let claim = all.storage.claims.get(&pod.namespace, name);
                claim.is_some_and(|claim| api::storage::is_for_one_pod(&claim))
            })
            .collect();
        let uses = |other: &PodInfo| {
            other.namespace == pod.namespace
                && other.uid() != pod.uid()
                && api::storage::claims_of(&other.pod).any(|(name, _)| alone.contains(&name))
        };
        let used = !alone.is_empty()
            && all
                .nodes()
                .any(|node| node.pods.values().any(|other| uses(other)));
        if used { vec![REASON.to_owned()] } else { Vec::new() }
    }

    fn others_matter(&self) -> bool {
        true
    }
}
