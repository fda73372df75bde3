//! What becomes of a snapshot until it is ready: its content is found or made, and what the driver said of that is
//! passed on.

use std::sync::Arc;

use api::snapshots::{BOUND_FINALIZER, SOURCE_FINALIZER, VolumeSnapshot, VolumeSnapshotContent};
use jiff::Timestamp;
use serde_json::json;

use super::told::{Failure, NAME, fail, pass_on};
use super::{leave, make};
use crate::Reconciler;
use crate::finalizers::{add_finalizers, has_finalizer};
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// Looks after snapshots; keyed by snapshot.
pub(super) struct Snapshots;

impl Reconciler for Snapshots {
    const NAME: &'static str = NAME;
    const QUEUE: &'static str = "snapshot-controller-snapshot";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(snapshot) = view.snapshots.snapshots.get(&key.namespace, &key.name) else {
            return plan;
        };
        match view.snapshots.keep_away(now) {
            Some(wait) => plan.look_again(wait),
            None => decide(&snapshot, view, now, &mut plan),
        }
        plan
    }
}

pub(super) fn decide(snapshot: &VolumeSnapshot, view: &View, now: Timestamp, plan: &mut Plan) {
    if is_going(snapshot) {
        return leave::leave(snapshot, view, plan);
    }
    leave::free_claim(snapshot, false, view, plan);
    if let Err(failure) = advance(snapshot, view, plan) {
        fail(snapshot, &failure, now, plan);
    }
}

/// One step: whatever was written brings the snapshot here again.
fn advance(snapshot: &VolumeSnapshot, view: &View, plan: &mut Plan) -> Result<(), Failure> {
    let content = content_of(snapshot, view)?;
    if let Some(marks) = missing_marks(snapshot, content.as_deref()) {
        plan.write(add_finalizers(snapshot, &marks));
        return Ok(());
    }
    let settled = snapshot.is_ready() && snapshot.bound_to().is_some();
    if !settled {
        make::named_class(snapshot, view)?;
    }
    match (&content, &snapshot.spec.source.persistent_volume_claim_name) {
        (Some(_), _) if settled => Ok(()),
        (Some(content), _) => {
            bind(snapshot, content, plan);
            pass_on(snapshot, content, plan);
            Ok(())
        }
        // Never another in place of one that was there: what was kept is as of one moment, and that is over.
        (None, Some(claim)) if snapshot.bound_to().is_none() => make::make(snapshot, claim, view, plan),
        (None, _) => Err(Failure::useless(
            "SnapshotContentMissing",
            "VolumeSnapshotContent is missing",
        )),
    }
}

/// The content that a snapshot names, or that was made for it.
fn content_of(snapshot: &VolumeSnapshot, view: &View) -> Result<Option<Arc<VolumeSnapshotContent>>, Failure> {
    let source = &snapshot.spec.source;
    let (claim, given) = (
        &source.persistent_volume_claim_name,
        &source.volume_snapshot_content_name,
    );
    if claim.is_some() == given.is_some() {
        let text =
            "Exactly one of PersistentVolumeClaimName and VolumeSnapshotContentName should be specified";
        return Err(Failure::useless("SnapshotValidationError", text));
    }
    let name = given.clone().unwrap_or_else(|| snapshot.content_to_make());
    let Some(content) = view.snapshots.contents.get("", &name) else {
        return Ok(None);
    };
    let made_for = &content.spec.source;
    if given.is_some() && made_for.snapshot_handle.is_none() {
        let text = "VolumeSnapshotContent is dynamically provisioned while expecting a pre-provisioned one";
        return Err(Failure::useless("SnapshotContentMismatch", text));
    }
    if claim.is_some() && made_for.volume_handle.is_none() {
        let text = format!(
            "VolumeSnapshotContent {name} is pre-provisioned while expecting a dynamically provisioned one"
        );
        return Err(Failure::useless("SnapshotContentMismatch", text));
    }
    // One that was made for a snapshot names its UID from the start; one that was given may not know it yet.
    if content.is_bound_to(snapshot) || (given.is_some() && content.is_meant_for(snapshot)) {
        return Ok(Some(content));
    }
    let text = format!("VolumeSnapshotContent [{name}] is bound to a different snapshot");
    Err(Failure::useless("SnapshotContentMisbound", text))
}

/// The finalizers that a snapshot should have and has not.
fn missing_marks(
    snapshot: &VolumeSnapshot,
    content: Option<&VolumeSnapshotContent>,
) -> Option<Vec<&'static str>> {
    let held =
        content.is_some_and(VolumeSnapshotContent::goes_with_snapshot) && snapshot.bound_to().is_some();
    let wanted = [(SOURCE_FINALIZER, true), (BOUND_FINALIZER, held)];
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|(mark, wanted)| *wanted && !has_finalizer(snapshot, mark))
        .map(|(mark, _)| mark)
        .collect();
    (!missing.is_empty()).then_some(missing)
}

/// Makes a content that somebody wrote the snapshot's own.
fn bind(snapshot: &VolumeSnapshot, content: &VolumeSnapshotContent, plan: &mut Plan) {
    let class = snapshot.spec.volume_snapshot_class_name.as_ref();
    let classed = content.spec.volume_snapshot_class_name.is_some() || class.is_none();
    if content.is_bound_to(snapshot) && classed {
        return;
    }
    let mut spec = json!({"volumeSnapshotRef": {"uid": snapshot.metadata.uid}});
    if let Some(class) = class {
        spec["volumeSnapshotClassName"] = json!(class);
    }
    let version = &content.metadata.resource_version;
    plan.write(Write::merge(
        content,
        json!({"metadata": {"resourceVersion": version}, "spec": spec}),
    ));
}
