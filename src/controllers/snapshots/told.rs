//! What is said of a snapshot: how far it has come, and what went wrong.

use api::quantity::{Format, Quantity};
use api::snapshots::{SnapshotStatus, VolumeSnapshot, VolumeSnapshotContent};
use client::EventType;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Map, Value, json};

use crate::plan::{Plan, Write};

/// Who tells of snapshots.
pub(super) const NAME: &str = "snapshot-controller";

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
pub(super) fn fail(snapshot: &VolumeSnapshot, failure: &Failure, now: Timestamp, plan: &mut Plan) {
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
