//! Nodes that were cordoned take no new pods.

use k8s_openapi::api::core::v1::Taint;

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

const REASON: &str = "node(s) were unschedulable";

pub(super) struct NodeUnschedulable;

impl Plugin for NodeUnschedulable {
    fn name(&self) -> &'static str {
        "NodeUnschedulable"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, _all: &Snapshot) -> Vec<Refusal> {
        let cordoned = node
            .node
            .spec
            .as_ref()
            .and_then(|spec| spec.unschedulable)
            .unwrap_or(false);
        let taint = [Taint {
            key: "node.kubernetes.io/unschedulable".to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        }];
        if cordoned && api::pod::untolerated(pod.spec(), &taint, &["NoSchedule"]).is_some() {
            return vec![REASON.to_owned()];
        }
        Vec::new()
    }
}
