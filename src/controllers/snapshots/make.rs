//! Making the content of a snapshot of a claim, by which the driver's helper learns of it.

use std::sync::Arc;

use api::snapshots::{
    CLAIM_FINALIZER, DEFAULT_CLASS, SECRET_NAME, SECRET_NAMESPACE, VolumeSnapshot, VolumeSnapshotClass,
    VolumeSnapshotContent,
};
use api::storage::{self, note};
use client::EventType;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::{Value, json};

use super::secrets;
use super::told::{Failure, pass_on};
use crate::finalizers::with_finalizer;
use crate::plan::{Key, Plan, Target, Write};
use crate::view::{View, is_going};

/// The class that a snapshot names, if it names one.
pub(super) fn named_class(
    snapshot: &VolumeSnapshot,
    view: &View,
) -> Result<Option<Arc<VolumeSnapshotClass>>, Failure> {
    let Some(name) = &snapshot.spec.volume_snapshot_class_name else {
        return Ok(None);
    };
    let class = view.snapshots.classes.get("", name);
    class.map(Some).ok_or_else(|| {
        let text = format!(
            "Failed to get snapshot class with error volumesnapshotclass.snapshot.storage.k8s.io {name:?} not found"
        );
        Failure::harmless("GetSnapshotClassFailed", text)
    })
}

/// Makes the content for a snapshot of that claim; one without a class is given the default first.
pub(super) fn make(
    snapshot: &VolumeSnapshot,
    claim: &str,
    view: &View,
    plan: &mut Plan,
) -> Result<(), Failure> {
    let Some(class) = named_class(snapshot, view)? else {
        let class = default_class(snapshot, claim, view).map_err(|why| {
            let text = format!("Failed to set default snapshot class with error {why}");
            Failure::harmless("SetDefaultSnapshotClassFailed", text)
        })?;
        let named = json!({"spec": {"volumeSnapshotClassName": class}});
        plan.write(Write::merge(snapshot, named));
        return Ok(());
    };
    let content = content(snapshot, claim, &class, view).map_err(|why| {
        let text = format!("Failed to create snapshot content with error {why}");
        Failure::useless("SnapshotContentCreationFailed", text)
    })?;
    let kept = claim_of(snapshot, claim, view)
        .ok()
        .and_then(|claim| with_finalizer(claim.as_ref(), CLAIM_FINALIZER, true));
    if let Some(kept) = kept {
        plan.write(Write::update(&kept));
    }
    let target = Target {
        resource: client::resource_of::<VolumeSnapshotContent>(),
        key: Key::new("", snapshot.content_to_make()),
        subresource: "",
    };
    plan.write(Write::Create(target, content.clone()));
    let text = format!(
        "Waiting for a snapshot {} to be created by the CSI driver.",
        snapshot.full_name()
    );
    plan.tell(snapshot, EventType::Normal, "CreatingSnapshot", text);
    // It is ours to make, so that it can be read back.
    if let Ok(content) = serde_json::from_value(content) {
        pass_on(snapshot, &content, plan);
    }
    Ok(())
}

/// The class that administrators marked for the driver of the claim's volume.
fn default_class(snapshot: &VolumeSnapshot, claim: &str, view: &View) -> Result<String, String> {
    let volume = volume_of(snapshot, claim, view)?;
    let driver = api::csi::source(&volume).map(|source| &source.driver);
    let Some(driver) = driver else {
        return Err(format!(
            "snapshotting non-CSI volumes is not supported, snapshot:{}",
            snapshot.full_name()
        ));
    };
    let classes = view.snapshots.classes.list();
    let marked: Vec<_> = classes
        .iter()
        .filter(|class| note(&class.metadata, DEFAULT_CLASS) == "true" && class.driver == *driver)
        .collect();
    match marked.as_slice() {
        [] => Err("cannot find default snapshot class".to_owned()),
        [class] => Ok(class.metadata.name.clone().unwrap_or_default()),
        several => Err(format!("{} default snapshot classes were found", several.len())),
    }
}

/// The content, which asks the class's driver for a snapshot of the claim's volume.
fn content(
    snapshot: &VolumeSnapshot,
    claim: &str,
    class: &VolumeSnapshotClass,
    view: &View,
) -> Result<Value, String> {
    let name = snapshot.metadata.name.clone().unwrap_or_default();
    let cannot = |what: &str| format!("snapshot controller failed to update {name} on API server: {what}");
    let found = claim_of(snapshot, claim, view).map_err(|_| cannot("cannot get claim from snapshot"))?;
    if is_going(found.as_ref()) {
        return Err(cannot(
            "cannot add finalizer on claim because it is being deleted",
        ));
    }
    let input = |why: String| format!("failed to get input parameters to create snapshot {name}: {why:?}");
    let volume = volume_of(snapshot, claim, view).map_err(input)?;
    let content_name = snapshot.content_to_make();
    let secret = secrets::find(&class.parameters, &content_name, snapshot).map_err(input)?;
    let volume_name = volume.metadata.name.as_deref().unwrap_or_default();
    let source = api::csi::source(&volume)
        .ok_or_else(|| format!("cannot find CSI PersistentVolumeSource for volume {volume_name}"))?;
    let mut content = json!({
        "apiVersion": VolumeSnapshotContent::API_VERSION,
        "kind": VolumeSnapshotContent::KIND,
        "metadata": {"name": content_name},
        "spec": {
            "volumeSnapshotRef": client::reference(snapshot),
            "source": {"volumeHandle": source.volume_handle},
            "volumeSnapshotClassName": class.metadata.name,
            "deletionPolicy": class.deletion_policy,
            "driver": class.driver,
        },
    });
    if let Some(mode) = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_ref()) {
        // Who restores it must not turn a device into files, or files into a device, without being allowed to.
        content["spec"]["sourceVolumeMode"] = json!(mode);
    }
    if let Some(secret) = secret {
        content["metadata"]["annotations"] =
            json!({SECRET_NAME: secret.name, SECRET_NAMESPACE: secret.namespace});
    }
    Ok(content)
}

fn claim_of(
    snapshot: &VolumeSnapshot,
    claim: &str,
    view: &View,
) -> Result<Arc<PersistentVolumeClaim>, String> {
    let namespace = snapshot.metadata.namespace.as_deref().unwrap_or_default();
    view.claims.get(namespace, claim).ok_or_else(|| {
        let why = format!("persistentvolumeclaim {claim:?} not found");
        format!("failed to retrieve PVC {claim} from the lister: {why:?}")
    })
}

/// The volume of a claim that has one.
fn volume_of(snapshot: &VolumeSnapshot, claim: &str, view: &View) -> Result<Arc<PersistentVolume>, String> {
    let found = claim_of(snapshot, claim, view)?;
    if storage::claim_phase(&found) != "Bound" {
        return Err(format!(
            "the PVC {claim} is not yet bound to a PV, will not attempt to take a snapshot"
        ));
    }
    let name = storage::volume_name(&found);
    let volume = view.volumes.get("", name).ok_or_else(|| {
        let why = format!("persistentvolumes {name:?} not found");
        format!("failed to retrieve PV {name} from the API server: {why:?}")
    })?;
    if !storage::is_kept_for(&volume, &found) {
        return Err("claim in dataSource not bound or invalid".to_owned());
    }
    Ok(volume)
}
