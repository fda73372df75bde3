//! What becomes of a snapshot until it is ready: its content is found or made, and what the driver said of that is
//! passed on.

use std::sync::Arc;

use api::quantity::{Format, Quantity};
use api::snapshots::{
    BOUND_FINALIZER, SOURCE_FINALIZER, SnapshotStatus, VolumeSnapshot, VolumeSnapshotContent,
};
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use super::{NAME, add_finalizers, has_finalizer, leave, make};
use crate::Reconciler;
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

/// Why a snapshot cannot be had as things are; every change of what it depends on is a new try.
#[derive(Debug, PartialEq)]
pub(super) struct Failure {
    reason: &'static str,
    message: String,
    /// Whether the snapshot is of no use, too, rather than as useful as before.
    useless: bool,
}

impl Failure {
    /// A failure after which nobody may make volumes of the snapshot.
    pub(super) fn useless(reason: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            reason,
            message,
            useless: true,
        }
    }

    /// A failure that says nothing about the snapshot as it is.
    pub(super) fn harmless(reason: &'static str, message: String) -> Self {
        Self {
            reason,
            message,
            useless: false,
        }
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

/// Says of the snapshot what its content says, as far as that is news.
pub(super) fn pass_on(snapshot: &VolumeSnapshot, content: &VolumeSnapshotContent, plan: &mut Plan) {
    let had = snapshot.status.clone().unwrap_or_default();
    let news = news(&had, content);
    if news.is_empty() {
        return;
    }
    let (cut, ready) = (news.contains_key("creationTime"), news.get("readyToUse"));
    let ready = ready == Some(&Value::Bool(true));
    plan.write(Write::merge_status(snapshot, json!({"status": news})));
    let name = snapshot.full_name();
    if cut {
        let text = format!("Snapshot {name} was successfully created by the CSI driver.");
        plan.tell(snapshot, EventType::Normal, "SnapshotCreated", text);
    }
    if ready {
        let text = format!("Snapshot {name} is ready to use.");
        plan.tell(snapshot, EventType::Normal, "SnapshotReady", text);
    }
}

fn news(had: &SnapshotStatus, content: &VolumeSnapshotContent) -> Map<String, Value> {
    let said = content.status.clone().unwrap_or_default();
    let mut news = Map::new();
    let mut tell = |key: &str, value: Value| {
        news.insert(key.to_owned(), value);
    };
    if had.bound_volume_snapshot_content_name.is_none() {
        tell("boundVolumeSnapshotContentName", json!(content.metadata.name));
    }
    let cut = said
        .creation_time
        .and_then(|at| Timestamp::from_nanosecond(at.into()).ok());
    if let Some(at) = cut.filter(|_| had.creation_time.is_none()) {
        tell("creationTime", json!(Time(at)));
    }
    let ready = said.ready_to_use.unwrap_or(false);
    if had.ready_to_use != Some(ready) {
        tell("readyToUse", json!(ready));
    }
    let size = had.restore_size.as_ref().map(Quantity::from_json);
    let unknown = !size.is_some_and(|size| size.is_ok_and(|size| !size.is_zero()));
    if let Some(bytes) = said.restore_size.filter(|bytes| unknown && *bytes > 0) {
        let text = Quantity::new(bytes, Format::BinarySi).to_string();
        tell("restoreSize", json!(text));
    }
    if had.error != said.error {
        tell("error", json!(said.error));
    }
    news
}

/// Says once what went wrong.
fn fail(snapshot: &VolumeSnapshot, failure: &Failure, now: Timestamp, plan: &mut Plan) {
    let error = snapshot.status.as_ref().and_then(|status| status.error.as_ref());
    let told = error.and_then(|error| error.message.as_ref());
    if told == Some(&failure.message) {
        return;
    }
    let mut status = json!({"error": {"time": Time(now), "message": failure.message}});
    if failure.useless {
        status["readyToUse"] = json!(false);
    }
    plan.write(Write::merge_status(snapshot, json!({"status": status})));
    plan.tell(
        snapshot,
        EventType::Warning,
        failure.reason,
        failure.message.clone(),
    );
}
