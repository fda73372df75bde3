//! Contents are kept until the driver's helper has looked after them, and are told when their snapshot goes.

use api::snapshots::{CONTENT_FINALIZER, VolumeSnapshotContent};
use client::EventType;
use jiff::Timestamp;

use super::leave::{is_leaving, mark_going};
use super::told::NAME;
use crate::Reconciler;
use crate::finalizers::{add_finalizers, has_finalizer};
use crate::plan::{Key, Plan};
use crate::view::{View, is_going};

/// Marks contents; keyed by content.
pub(super) struct Contents;

impl Reconciler for Contents {
    const NAME: &'static str = NAME;
    const QUEUE: &'static str = "snapshot-controller-content";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(content) = view.snapshots.contents.get("", &key.name) else {
            return plan;
        };
        match view.snapshots.keep_away(now) {
            Some(wait) => plan.look_again(wait),
            None => decide(&content, view, &mut plan),
        }
        plan
    }
}

pub(super) fn decide(content: &VolumeSnapshotContent, view: &View, plan: &mut Plan) {
    let source = &content.spec.source;
    if source.volume_handle.is_some() == source.snapshot_handle.is_some() {
        let text = "Exactly one of VolumeHandle and SnapshotHandle should be specified";
        return plan.tell(
            content,
            EventType::Warning,
            "ContentValidationError",
            text.to_owned(),
        );
    }
    let named = &content.spec.volume_snapshot_ref;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    if text(&named.uid).is_empty() {
        // Kept for a snapshot that has not come yet.
        return;
    }
    if !is_going(content) && !has_finalizer(content, CONTENT_FINALIZER) {
        return plan.write(add_finalizers(content, &[CONTENT_FINALIZER]));
    }
    let snapshot = view
        .snapshots
        .snapshots
        .get(&text(&named.namespace), &text(&named.name));
    // One whose snapshot is not there stays: somebody may have brought it from another cluster, and the data
    // behind it would be lost.
    if snapshot.is_some_and(|snapshot| content.is_bound_to(&snapshot) && is_leaving(&snapshot)) {
        mark_going(content, plan);
    }
}
