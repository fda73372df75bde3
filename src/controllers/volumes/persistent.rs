//! The volumes' side of binding: their phase, and what becomes of them when their claim is gone.

use std::time::Duration;

use api::storage::{self, LOCAL_PATH, PROVISIONED_BY};
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use super::bind::{self, phase};
use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// How soon a claim that the cache may only not show yet is looked for again.
const CACHE_LAG: Duration = Duration::from_millis(500);
/// How often it is looked whether the node of a released volume has gone for good.
const NODE_GONE: Duration = Duration::from_secs(60);

/// Keeps the volumes' phases and reclaims them; keyed by volume.
pub(super) struct Volumes;

impl Reconciler for Volumes {
    const NAME: &'static str = "persistentvolume-controller";
    const QUEUE: &'static str = "volumes";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(volume) = view.volumes.get("", &key.name) else {
            return plan;
        };
        let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        match kept.filter(|kept| kept.uid.as_ref().is_some_and(|uid| !uid.is_empty())) {
            None => {
                if storage::volume_phase(&volume) != "Available" && !is_going(volume.as_ref()) {
                    plan.write(phase(&volume, "Available"));
                }
            }
            Some(kept) => follow(&volume, kept, view, &mut plan),
        }
        plan
    }
}

/// A volume that is some claim's.
fn follow(volume: &PersistentVolume, kept: &ObjectReference, view: &View, plan: &mut Plan) {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let claim = view.claims.get(&part(&kept.namespace), &part(&kept.name));
    let Some(claim) = claim.filter(|claim| claim.metadata.uid == kept.uid) else {
        return release(volume, view, plan);
    };
    let own = volume.metadata.name.as_deref().unwrap_or_default();
    match storage::volume_name(&claim) {
        "" if !storage::same_mode(&claim, volume) => tell_mode(volume, &claim, plan),
        // The claim's side goes on from here.
        "" => {}
        name if name == own => {
            if storage::volume_phase(volume) != "Bound" {
                plan.write(phase(volume, "Bound"));
            }
        }
        // The claim took another one. What was made for it alone is nobody's now.
        _ if !storage::note(&volume.metadata, PROVISIONED_BY).is_empty() && policy(volume) == "Delete" => {
            release(volume, view, plan);
        }
        _ => bind::unbind(volume, plan),
    }
}

fn tell_mode(volume: &PersistentVolume, claim: &PersistentVolumeClaim, plan: &mut Plan) {
    let (volume_name, claim_name) = (&volume.metadata.name, &claim.metadata.name);
    let volume_text = format!(
        "Cannot bind PersistentVolume to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
        claim_name.as_deref().unwrap_or_default()
    );
    let claim_text = format!(
        "Cannot bind PersistentVolume {:?} to requested PersistentVolumeClaim {:?} due to incompatible volumeMode.",
        volume_name.as_deref().unwrap_or_default(),
        claim_name.as_deref().unwrap_or_default()
    );
    plan.tell(volume, EventType::Warning, "VolumeMismatch", volume_text);
    plan.tell(claim, EventType::Warning, "VolumeMismatch", claim_text);
}

fn policy(volume: &PersistentVolume) -> &str {
    let spec = volume.spec.as_ref();
    spec.and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref())
        .unwrap_or("Retain")
}

/// The claim is gone: the volume is released, and reclaimed as its policy says.
fn release(volume: &PersistentVolume, view: &View, plan: &mut Plan) {
    let revision = volume.metadata.resource_version.as_deref();
    let seen: u64 = revision.and_then(|text| text.parse().ok()).unwrap_or(0);
    let known = storage::volume_phase(volume);
    if known == "Pending" && view.claims.revision() < seen {
        // Its claim may be younger than what the cache shows.
        return plan.look_again(CACHE_LAG);
    }
    if !matches!(known, "Released" | "Failed") {
        plan.write(phase(volume, "Released"));
    }
    match policy(volume) {
        _ if known == "Failed" => {}
        "Recycle" => fail(
            volume,
            "VolumeFailedRecycle",
            "No recycler plugin found for the volume!".to_owned(),
            plan,
        ),
        "Delete" => delete(volume, view, plan),
        _ => {}
    }
}

fn delete(volume: &PersistentVolume, view: &View, plan: &mut Plan) {
    match storage::note(&volume.metadata, PROVISIONED_BY) {
        "" => {
            let name = volume.metadata.name.as_deref().unwrap_or_default();
            let text = format!(
                "error getting deleter volume plugin for volume {name:?}: no deletable volume plugin matched"
            );
            fail(volume, "VolumeFailedDelete", text, plan);
        }
        // Its node removes the folder and then the object; nobody else can.
        LOCAL_PATH
            if view
                .nodes
                .list()
                .iter()
                .any(|node| storage::reaches(volume, node)) =>
        {
            plan.look_again(NODE_GONE);
        }
        LOCAL_PATH => plan.write(Write::delete(volume)),
        _ => {}
    }
}

fn fail(volume: &PersistentVolume, reason: &'static str, message: String, plan: &mut Plan) {
    let status = json!({"status": {"phase": "Failed", "message": message.clone()}});
    plan.write(Write::merge_status(volume, status));
    plan.tell(volume, EventType::Warning, reason, message);
}
