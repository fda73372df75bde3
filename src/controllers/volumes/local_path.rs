//! The built-in provisioner: a volume is a folder on one node, below the folder that the Node names in its
//! annotation. Here only the PersistentVolume is made; the node's agent makes the folder when the first pod
//! wants it and removes it when the claim is gone.

use std::collections::BTreeMap;

use api::storage::{self, LOCAL_PATH, PROVISIONED_BY, SELECTED_NODE, STORAGE_PROVISIONER, note};
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    LocalVolumeSource, Node, PersistentVolume, PersistentVolumeClaim, PersistentVolumeSpec,
    VolumeNodeAffinity,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::{bind, volume_protection};
use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// Makes volumes for claims that name this provisioner; keyed by claim.
pub(super) struct LocalPaths;

impl Reconciler for LocalPaths {
    const NAME: &'static str = LOCAL_PATH;

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(claim) = view.claims.get(&key.namespace, &key.name) else {
            return plan;
        };
        let ours = note(&claim.metadata, STORAGE_PROVISIONER) == LOCAL_PATH;
        let made = view.volumes.get("", &volume_name(&claim)).is_some();
        if !ours || made || is_going(claim.as_ref()) || !storage::volume_name(&claim).is_empty() {
            return plan;
        }
        let class_name = storage::class_of_claim(&claim).unwrap_or_default();
        let Some(class) = view.classes.get("", class_name) else {
            return plan;
        };
        provision(&claim, &class, view, &mut plan);
        plan
    }
}

/// Name of the volume made for a claim.
fn volume_name(claim: &PersistentVolumeClaim) -> String {
    format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default())
}

fn provision(claim: &PersistentVolumeClaim, class: &StorageClass, view: &View, plan: &mut Plan) {
    let full = format!(
        "{}/{}",
        claim.metadata.namespace.as_deref().unwrap_or_default(),
        claim.metadata.name.as_deref().unwrap_or_default()
    );
    let text = format!("External provisioner is provisioning volume for claim {full:?}");
    plan.tell(claim, EventType::Normal, "Provisioning", text);
    let node = note(&claim.metadata, SELECTED_NODE);
    match make(claim, class, view.nodes.get("", node).as_deref()) {
        Ok(volume) => {
            plan.write(Write::create(&volume));
            let text = format!("Successfully provisioned volume {}", volume_name(claim));
            plan.tell(claim, EventType::Normal, "ProvisioningSucceeded", text);
        }
        Err(why) => {
            if !node.is_empty() {
                // Another node may be chosen.
                let notes = json!({"metadata": {"annotations": {SELECTED_NODE: null}}});
                plan.write(Write::merge(claim, notes));
            }
            let name = class.metadata.name.as_deref().unwrap_or_default();
            let text = format!("failed to provision volume with StorageClass {name:?}: {why}");
            plan.tell(claim, EventType::Warning, "ProvisioningFailed", text);
        }
    }
}

/// The volume for a claim on a node.
fn make(
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
    node: Option<&Node>,
) -> Result<PersistentVolume, String> {
    let asked = claim.spec.clone().unwrap_or_default();
    let modes = storage::modes(asked.access_modes.as_ref());
    if asked.selector.is_some() {
        return Err("claim.Spec.Selector is not supported".to_owned());
    }
    if modes
        .iter()
        .any(|mode| !matches!(mode.as_str(), "ReadWriteOnce" | "ReadWriteOncePod"))
    {
        return Err(
            "a folder of one node supports only ReadWriteOnce and ReadWriteOncePod access modes".to_owned(),
        );
    }
    if asked.data_source.is_some() || asked.data_source_ref.is_some() {
        return Err("a folder of a node begins empty: data sources are not supported".to_owned());
    }
    let node = node.ok_or("configuration error, no node was specified")?;
    let node_name = node.metadata.name.clone().unwrap_or_default();
    let root = Some(note(&node.metadata, LOCAL_PATH)).filter(|root| root.starts_with('/'));
    let root = root.ok_or_else(|| format!("node {node_name:?} offers no folder for volumes"))?;
    let hostname = node
        .metadata
        .labels
        .as_ref()
        .and_then(|l| l.get("kubernetes.io/hostname"));
    let path = format!(
        "{root}/{}_{}_{}",
        volume_name(claim),
        claim.metadata.namespace.as_deref().unwrap_or_default(),
        claim.metadata.name.as_deref().unwrap_or_default()
    );
    Ok(PersistentVolume {
        metadata: ObjectMeta {
            name: Some(volume_name(claim)),
            annotations: Some(BTreeMap::from([(
                PROVISIONED_BY.to_owned(),
                LOCAL_PATH.to_owned(),
            )])),
            finalizers: Some(vec![volume_protection::FINALIZER.to_owned()]),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            capacity: asked.resources.and_then(|resources| resources.requests),
            access_modes: asked.access_modes,
            claim_ref: Some(bind::reference(claim)),
            local: Some(LocalVolumeSource {
                path,
                ..LocalVolumeSource::default()
            }),
            node_affinity: only(hostname.unwrap_or(&node_name)),
            persistent_volume_reclaim_policy: class.reclaim_policy.clone(),
            storage_class_name: class.metadata.name.clone(),
            // The node's agent makes a folder, or a file that stands for a device.
            volume_mode: Some(asked.volume_mode.unwrap_or_else(|| "Filesystem".to_owned())),
            ..PersistentVolumeSpec::default()
        }),
        ..PersistentVolume::default()
    })
}

/// The node with that host name, and no other.
fn only(hostname: &str) -> Option<VolumeNodeAffinity> {
    let affinity = json!({"required": {"nodeSelectorTerms": [{"matchExpressions": [
        {"key": "kubernetes.io/hostname", "operator": "In", "values": [hostname]}]}]}});
    serde_json::from_value(affinity).ok()
}
