//! A pod runs where its volumes can be had.

use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};

pub(super) struct VolumeBinding;

impl Plugin for VolumeBinding {
    fn name(&self) -> &'static str {
        "VolumeBinding"
    }

    fn refuse(&self, pod: &PodInfo, all: &Snapshot) -> Option<Refusal> {
        all.storage.refusal(&pod.pod)
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, all: &Snapshot) -> Vec<Refusal> {
        all.storage.needs(&pod.pod, &node.node).err().unwrap_or_default()
    }
}
