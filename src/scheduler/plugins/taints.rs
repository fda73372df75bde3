//! Taints keep pods away that do not tolerate them.

use k8s_openapi::api::core::v1::Taint;

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct TaintToleration;

/// A taint that keeps the pod away from the node.
pub(super) fn untolerated<'a>(pod: &PodInfo, node: &'a NodeInfo) -> Option<&'a Taint> {
    let taints = node.node.spec.as_ref().and_then(|spec| spec.taints.as_deref());
    api::pod::untolerated(
        pod.spec(),
        taints.unwrap_or_default(),
        &["NoSchedule", "NoExecute"],
    )
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        match untolerated(pod, node) {
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or_default();
                vec![format!(
                    "node(s) had untolerated taint {{{}: {value}}}",
                    taint.key
                )]
            }
            None => Vec::new(),
        }
    }

    /// Fewer taints that say `PreferNoSchedule` are better.
    fn score(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> i64 {
        let taints = node
            .node
            .spec
            .iter()
            .flat_map(|spec| spec.taints.iter().flatten());
        let tolerations = pod.spec().tolerations.as_deref().unwrap_or_default();
        let disliked = taints
            .filter(|taint| taint.effect == "PreferNoSchedule")
            .filter(|taint| !tolerations.iter().any(|t| api::pod::tolerates(t, taint)))
            .count();
        -i64::try_from(disliked).unwrap_or(i64::MAX)
    }

    fn weight(&self) -> i64 {
        3
    }
}
