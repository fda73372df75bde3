//! What is written to make a claim and a volume each other's.

use std::collections::BTreeMap;

use api::storage::{self, BIND_COMPLETED, BOUND_BY_CONTROLLER};
use client::Object;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use crate::plan::{Plan, Write};

/// The value of annotations that only say that they are there.
const YES: &str = "yes";

/// Binds what is not bound yet of the two: the volume to the claim, then the claim to the volume, so that
/// whoever crashes in between leaves a volume that is kept for the claim and found by it again.
pub(super) fn bind(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    bind_volume(claim, volume, plan);
    bind_claim(claim, volume, plan);
}

fn bind_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if kept.is_none_or(|kept| kept.uid != claim.metadata.uid) {
        let mut new = volume.clone();
        if kept.is_none() {
            annotate(&mut new, BOUND_BY_CONTROLLER);
        }
        new.spec.get_or_insert_default().claim_ref = Some(reference(claim));
        plan.write(Write::update(&new));
    }
    if storage::volume_phase(volume) != "Bound" {
        plan.write(phase(volume, "Bound"));
    }
}

fn bind_claim(claim: &PersistentVolumeClaim, volume: &PersistentVolume, plan: &mut Plan) {
    let named = !storage::volume_name(claim).is_empty();
    if !named || storage::note(&claim.metadata, BIND_COMPLETED).is_empty() {
        let mut new = claim.clone();
        if !named {
            annotate(&mut new, BOUND_BY_CONTROLLER);
            new.spec
                .get_or_insert_default()
                .volume_name
                .clone_from(&volume.metadata.name);
        }
        annotate(&mut new, BIND_COMPLETED);
        plan.write(Write::update(&new));
    }
    if storage::claim_phase(claim) == "Bound" {
        return;
    }
    let spec = volume.spec.as_ref();
    let status = json!({"status": {
        "phase": "Bound",
        "accessModes": spec.and_then(|spec| spec.access_modes.clone()),
        "capacity": spec.and_then(|spec| spec.capacity.clone()),
    }});
    plan.write(Write::merge_status(claim, status));
}

/// A volume's new phase.
pub(super) fn phase(volume: &PersistentVolume, phase: &str) -> Write {
    Write::merge_status(
        volume,
        json!({"status": {"phase": phase, "message": null, "reason": null}}),
    )
}

/// Lets go of a claim that has another volume. What a person asked for stays asked for.
pub(super) fn unbind(volume: &PersistentVolume, plan: &mut Plan) {
    let mut new = volume.clone();
    let ours = !storage::note(&volume.metadata, BOUND_BY_CONTROLLER).is_empty();
    let spec = new.spec.get_or_insert_default();
    if ours {
        spec.claim_ref = None;
        let notes = new.metadata.annotations.get_or_insert_default();
        notes.remove(BOUND_BY_CONTROLLER);
    } else if let Some(kept) = &mut spec.claim_ref {
        (kept.uid, kept.resource_version) = (None, None);
    }
    plan.write(Write::update(&new));
    plan.write(phase(volume, "Available"));
}

fn annotate<T: Object>(object: &mut T, key: &str) {
    let notes: &mut BTreeMap<_, _> = object.metadata_mut().annotations.get_or_insert_default();
    notes.insert(key.to_owned(), YES.to_owned());
}

/// The reference by which a volume names its claim.
pub(super) fn reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    let meta = &claim.metadata;
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
