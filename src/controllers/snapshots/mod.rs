//! Snapshots of volumes, in clusters that have their kinds: what Kubernetes' snapshot controller does.
//!
//! ```text
//! VolumeSnapshot ─▶ make ─▶ VolumeSnapshotContent ─▶ the driver's csi-snapshotter ─▶ CreateSnapshot
//!       ▲                            │                              │
//!       └──────── progress ◀─────────┴────────── its status ◀───────┘
//! VolumeSnapshot deleted ─▶ leave ─▶ content marked, and deleted if it goes too ─▶ DeleteSnapshot
//! ```
//! A driver is never called from here: its helper does that, as for everything else that drivers do for the
//! cluster. Where somebody runs the public snapshot controller, that one goes first (`caches.rs`).

mod caches;
mod content;
mod leave;
mod make;
mod progress;
mod secrets;

use api::snapshots::{
    BOUND_FINALIZER, SOURCE_FINALIZER, VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent,
};
use client::Object;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use serde_json::json;

use crate::harness::{Harness, Surroundings};
use crate::plan::{Key, Write};
use crate::view::View;

pub use caches::SnapshotCaches;

/// Who tells of snapshots.
const NAME: &str = "snapshot-controller";

/// Starts the controllers of this folder.
pub fn start(s: &Surroundings) {
    let (view, kinds) = (&s.view, &s.view.snapshots);
    Harness::start(progress::Snapshots, 1, s)
        .on_each(kinds.snapshots.changes())
        .on(kinds.contents.changes(), snapshot_of_content)
        .on(kinds.classes.changes(), waiting_snapshots)
        .on(view.claims.changes(), snapshots_about_claim)
        .on(view.volumes.changes(), snapshots_of_volume);
    Harness::start(content::Contents, 1, s)
        .on_each(kinds.contents.changes())
        .on(kinds.snapshots.changes(), contents_of_snapshot);
}

/// The snapshot that a content is for.
fn snapshot_of_content(content: &VolumeSnapshotContent, _: &View) -> Vec<Key> {
    let named = &content.spec.volume_snapshot_ref;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    vec![Key::new(part(&named.namespace), part(&named.name))]
}

/// The contents that a snapshot names, or that is made for it.
fn contents_of_snapshot(snapshot: &VolumeSnapshot, _: &View) -> Vec<Key> {
    let given = snapshot.spec.source.volume_snapshot_content_name.clone();
    vec![Key::new("", given.unwrap_or_else(|| snapshot.content_to_make()))]
}

fn waiting_snapshots(_: &VolumeSnapshotClass, view: &View) -> Vec<Key> {
    let all = view.snapshots.snapshots.list().into_iter();
    let waiting = all.filter(|snapshot| !snapshot.is_ready());
    waiting.map(|snapshot| Key::of(snapshot.as_ref())).collect()
}

/// Snapshots that are to be made of a claim, and those that a claim is being filled with and that are to go.
fn snapshots_about_claim(claim: &PersistentVolumeClaim, view: &View) -> Vec<Key> {
    let Key { namespace, name } = Key::of(claim);
    let all = view.snapshots.snapshots.list_in(&namespace).into_iter();
    let concerned = all.filter(|snapshot| {
        (snapshot.is_of_claim(&name) && !snapshot.is_ready())
            || snapshot.metadata.deletion_timestamp.is_some()
    });
    concerned.map(|snapshot| Key::of(snapshot.as_ref())).collect()
}

fn snapshots_of_volume(volume: &PersistentVolume, view: &View) -> Vec<Key> {
    let kept = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    let Some((namespace, name)) = kept.and_then(|kept| Some((kept.namespace.as_ref()?, kept.name.as_ref()?)))
    else {
        return Vec::new();
    };
    let claim = view.claims.get(namespace, name);
    claim.map_or_else(Vec::new, |claim| snapshots_about_claim(&claim, view))
}

fn finalizers<T: Object>(object: &T) -> &[String] {
    object.metadata().finalizers.as_deref().unwrap_or_default()
}

fn has_finalizer<T: Object>(object: &T, finalizer: &str) -> bool {
    finalizers(object).iter().any(|one| one == finalizer)
}

/// Gives an object those finalizers in place of the ones it was seen with.
fn set_finalizers<T: Object>(object: &T, list: &[&str]) -> Write {
    let version = &object.metadata().resource_version;
    Write::merge(
        object,
        json!({"metadata": {"resourceVersion": version, "finalizers": list}}),
    )
}

/// Gives an object further finalizers.
fn add_finalizers<T: Object>(object: &T, further: &[&str]) -> Write {
    let had = finalizers(object).iter().map(String::as_str);
    let list: Vec<&str> = had.chain(further.iter().copied()).collect();
    set_finalizers(object, &list)
}

/// Whether a snapshot that is deleted is still held by one of the marks of this folder.
fn is_leaving(snapshot: &VolumeSnapshot) -> bool {
    snapshot.metadata.deletion_timestamp.is_some()
        && (has_finalizer(snapshot, SOURCE_FINALIZER) || has_finalizer(snapshot, BOUND_FINALIZER))
}

#[cfg(test)]
mod tests;
