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
mod told;

use api::snapshots::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::harness::{Harness, Surroundings};
use crate::plan::Key;
use crate::view::View;

pub use caches::SnapshotCaches;

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

#[cfg(test)]
mod tests;
