//! How a snapshot goes: not while a claim is filled from it, and after its content, where that goes too.

use std::sync::Arc;

use api::snapshots::{
    BEING_DELETED, BOUND_FINALIZER, CLAIM_FINALIZER, GROUP, SNAPSHOT, SOURCE_FINALIZER, VolumeSnapshot,
    VolumeSnapshotContent,
};
use api::storage::{self, note};
use client::EventType;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use serde_json::json;

use crate::finalizers::{finalizers, has_finalizer, set_finalizers, with_finalizer};
use crate::plan::{Plan, Write};
use crate::view::{View, is_going};

/// Lets go of a deleted snapshot as far as it may.
pub(super) fn leave(snapshot: &VolumeSnapshot, view: &View, plan: &mut Plan) {
    if !is_leaving(snapshot) {
        return;
    }
    let content = content_of(snapshot, view);
    if let Some(content) = &content {
        if is_being_restored(snapshot, view) {
            let text = "Snapshot is being used to restore a PVC".to_owned();
            return plan.tell(snapshot, EventType::Warning, "SnapshotDeletePending", text);
        }
        mark_going(content, plan);
        if content.goes_with_snapshot() && !is_going(content.as_ref()) {
            plan.write(Write::delete(content.as_ref()));
        }
    }
    // The last moment for it: nobody looks at a snapshot that is gone.
    free_claim(snapshot, true, view, plan);
    let follows = content.is_some_and(|content| content.goes_with_snapshot());
    let stays = |mark: &&str| *mark != SOURCE_FINALIZER && (*mark != BOUND_FINALIZER || follows);
    let had = finalizers(snapshot).iter().map(String::as_str);
    let left: Vec<&str> = had.filter(stays).collect();
    if left.len() < finalizers(snapshot).len() {
        plan.write(set_finalizers(snapshot, &left));
    }
}

/// The content that is this snapshot's, as far as both know it. One may have been made whose name the snapshot
/// has not been told.
fn content_of(snapshot: &VolumeSnapshot, view: &View) -> Option<Arc<VolumeSnapshotContent>> {
    let of_claim = snapshot.spec.source.persistent_volume_claim_name.as_ref();
    let made = of_claim.map(|_| snapshot.content_to_make());
    let name = snapshot.bound_to().map(str::to_owned).or(made)?;
    let content = view.snapshots.contents.get("", &name)?;
    content.is_bound_to(snapshot).then_some(content)
}

/// Whether a claim waits for a volume made from the snapshot.
fn is_being_restored(snapshot: &VolumeSnapshot, view: &View) -> bool {
    let meta = &snapshot.metadata;
    let is_source = |claim: &PersistentVolumeClaim| {
        let source = claim.spec.as_ref().and_then(|spec| spec.data_source.as_ref());
        source.is_some_and(|source| {
            source.kind == SNAPSHOT
                && source.api_group.as_deref() == Some(GROUP)
                && Some(&source.name) == meta.name.as_ref()
        })
    };
    let claims = view.claims.list_in(meta.namespace.as_deref().unwrap_or_default());
    claims
        .iter()
        .any(|claim| is_source(claim) && storage::claim_phase(claim) == "Pending")
}

/// Lets go of the claim once no snapshot is being made of it; `gone` leaves this one out.
pub(super) fn free_claim(snapshot: &VolumeSnapshot, gone: bool, view: &View, plan: &mut Plan) {
    let namespace = snapshot.metadata.namespace.as_deref().unwrap_or_default();
    let Some(name) = &snapshot.spec.source.persistent_volume_claim_name else {
        return;
    };
    let Some(claim) = view.claims.get(namespace, name) else {
        return;
    };
    let others = view.snapshots.snapshots.list_in(namespace);
    let uses = |other: &Arc<VolumeSnapshot>| {
        let counts = !gone || other.metadata.name != snapshot.metadata.name;
        counts && other.is_of_claim(name) && !other.is_ready()
    };
    if others.iter().any(uses) {
        return;
    }
    if let Some(free) = with_finalizer(claim.as_ref(), CLAIM_FINALIZER, false) {
        plan.write(Write::update(&free));
    }
}

/// Whether a snapshot that is deleted is still held by one of the marks of this folder.
pub(super) fn is_leaving(snapshot: &VolumeSnapshot) -> bool {
    snapshot.metadata.deletion_timestamp.is_some()
        && (has_finalizer(snapshot, SOURCE_FINALIZER) || has_finalizer(snapshot, BOUND_FINALIZER))
}

/// Tells the driver's helper that the snapshot is being deleted.
pub(super) fn mark_going(content: &VolumeSnapshotContent, plan: &mut Plan) {
    if note(&content.metadata, BEING_DELETED).is_empty() {
        let notes = json!({"metadata": {"annotations": {BEING_DELETED: "yes"}}});
        plan.write(Write::merge(content, notes));
    }
}
