//! A node has no more volumes of a driver than the driver can attach to it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;

use crate::drivers::Handles;
use crate::plugin::{Plugin, Refusal};
use crate::snapshot::{NodeInfo, PodInfo, Snapshot};
use crate::storage::Storage;

const REASON: &str = "node(s) exceed max volume count";

pub(super) struct NodeVolumeLimits;

impl Plugin for NodeVolumeLimits {
    fn name(&self) -> &'static str {
        "NodeVolumeLimits"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo, all: &Snapshot) -> Vec<Refusal> {
        let mut wanted = BTreeMap::new();
        add(&pod.pod, &all.storage, &mut wanted);
        if wanted.is_empty() {
            return Vec::new();
        }
        let mut there = BTreeMap::new();
        for other in node.pods.values().filter(|other| other.uid() != pod.uid()) {
            add(&other.pod, &all.storage, &mut there);
        }
        let name = node.node.metadata.name.as_deref().unwrap_or_default();
        let full = wanted.iter().any(|(driver, handles)| {
            let Some(max) = all.storage.drivers.volumes_max(name, driver) else {
                return false;
            };
            let had = there.get(driver).cloned().unwrap_or_default();
            let new = handles.difference(&had).count();
            new > 0 && had.len() + new > max
        });
        if full { vec![REASON.to_owned()] } else { Vec::new() }
    }

    fn others_matter(&self) -> bool {
        true
    }
}

/// Adds the volumes of drivers that a pod uses, and those that will be made for its claims.
fn add(pod: &Pod, storage: &Storage, found: &mut BTreeMap<String, Handles>) {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for (name, _) in api::storage::claims_of(pod) {
        let Some(claim) = storage.claims.get(namespace, &name) else {
            continue;
        };
        let volume = storage.volumes.get("", api::storage::volume_name(&claim));
        let named = match volume {
            Some(volume) => {
                api::csi::source(&volume).map(|csi| (csi.driver.clone(), csi.volume_handle.clone()))
            }
            None => {
                let class =
                    api::storage::class_of_claim(&claim).and_then(|class| storage.classes.get("", class));
                class.map(|class| (class.provisioner.clone(), format!("{namespace}/{name}")))
            }
        };
        if let Some((driver, handle)) = named {
            found.entry(driver).or_default().insert(handle);
        }
    }
}
