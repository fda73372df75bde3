//! What is decided about snapshots, played out on caches that take the writes.

use api::snapshots::{
    BEING_DELETED, BOUND_FINALIZER, CLAIM_FINALIZER, CONTENT_FINALIZER, DEFAULT_CLASS, SOURCE_FINALIZER,
};
use client::{Cache, Object};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::*;
use crate::finalizers::{finalizers, has_finalizer};
use crate::plan::{Plan, Target, Write};

fn from<T: Object>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A claim that has a volume of a driver, a default class of that driver, and these snapshots and contents.
fn view(snapshots: Vec<Value>, contents: Vec<Value>) -> View {
    View {
        claims: Cache::fixed([from(
            json!({"metadata": {"name": "data", "namespace": "d", "uid": "c1"},
            "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}),
        )]),
        volumes: Cache::fixed([from(json!({"metadata": {"name": "v"}, "spec": {
            "volumeMode": "Filesystem", "csi": {"driver": "disks", "volumeHandle": "h1"},
            "claimRef": {"name": "data", "namespace": "d", "uid": "c1"}}}))]),
        snapshots: SnapshotCaches {
            snapshots: Cache::fixed(snapshots.into_iter().map(from)),
            contents: Cache::fixed(contents.into_iter().map(from)),
            classes: Cache::fixed([class("usual", "disks"), class("other", "tapes")]),
            ..SnapshotCaches::empty()
        },
        ..View::empty()
    }
}

fn class(name: &str, driver: &str) -> VolumeSnapshotClass {
    from(
        json!({"metadata": {"name": name, "annotations": {DEFAULT_CLASS: "true"}},
        "driver": driver, "deletionPolicy": "Delete"}),
    )
}

fn snapshot(more: Value) -> Value {
    let snapshot = json!({"metadata": {"name": "s", "namespace": "d", "uid": "u1"},
        "spec": {"source": {"persistentVolumeClaimName": "data"}}});
    api::patch::merge_patch(snapshot, more)
}

fn content(more: Value) -> Value {
    let content = json!({"metadata": {"name": "snapcontent-u1"}, "spec": {
        "volumeSnapshotRef": {"name": "s", "namespace": "d", "uid": "u1"}, "source": {"volumeHandle": "h1"},
        "volumeSnapshotClassName": "usual", "deletionPolicy": "Delete", "driver": "disks"}});
    api::patch::merge_patch(content, more)
}

/// What somebody wrote down for a snapshot that the driver has had for long.
fn given(more: Value) -> Value {
    let given = json!({"metadata": {"name": "old"}, "spec": {"volumeSnapshotRef": {"uid": null},
        "source": {"volumeHandle": null, "snapshotHandle": "kept"}, "deletionPolicy": "Retain"}});
    content(api::patch::merge_patch(given, more))
}

fn given_snapshot() -> Value {
    snapshot(
        json!({"spec": {"source": {"persistentVolumeClaimName": null, "volumeSnapshotContentName": "old"}}}),
    )
}

const CUT: i64 = 1_767_225_600_000_000_000;

fn made_by_driver(ready: bool) -> Value {
    json!({"status": {"snapshotHandle": "h", "creationTime": CUT, "readyToUse": ready, "restoreSize": 1 << 30}})
}

/// Carries plans out on the caches, as the server would.
fn carry_out(view: &View, plan: &Plan) {
    let caches = &view.snapshots;
    for write in &plan.writes {
        let (target, key) = (write.target(), &write.target().key);
        let plural = target.resource.plural.as_str();
        match write {
            Write::Create(_, body) => store(view, target, body.clone()),
            Write::Update(_, body) => view.claims.apply(from(body.clone())),
            Write::Patch(_, _, patch) => {
                let current = match plural {
                    "volumesnapshots" => json!(caches.snapshots.get(&key.namespace, &key.name).as_deref()),
                    _ => json!(caches.contents.get("", &key.name).as_deref()),
                };
                store(view, target, api::patch::merge_patch(current, patch.clone()));
            }
            // The driver's helper lets go of it only once it has done its part.
            Write::Delete { .. } => {
                let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
                change_content(view, &key.name, going);
            }
        }
    }
}

fn store(view: &View, target: &Target, value: Value) {
    match target.resource.plural.as_str() {
        "volumesnapshots" => view.snapshots.snapshots.apply(from(value)),
        _ => view.snapshots.contents.apply(from(value)),
    }
}

fn change_content(view: &View, name: &str, change: Value) {
    let content = json!(view.snapshots.contents.get("", name).unwrap().as_ref());
    view.snapshots
        .contents
        .apply(from(api::patch::merge_patch(content, change)));
}

/// Lets both controllers look until nothing changes; what they told.
fn settle(view: &View) -> Vec<String> {
    let (mut told, now) = (Vec::new(), Timestamp::UNIX_EPOCH);
    for _ in 0..10 {
        let mut plans = Vec::new();
        for content in view.snapshots.contents.list() {
            plans.push(Plan::nothing());
            content::decide(&content, view, plans.last_mut().unwrap());
        }
        if let Some(snapshot) = view.snapshots.snapshots.get("d", "s") {
            let mut plan = Plan::nothing();
            progress::decide(&snapshot, view, now, &mut plan);
            plans.push(plan);
        }
        let events = plans.iter().flat_map(|plan| &plan.events);
        told.extend(events.map(|(_, notice)| format!("{}: {}", notice.reason, notice.message)));
        if plans.iter().all(|plan| plan.writes.is_empty()) {
            break;
        }
        plans.iter().for_each(|plan| carry_out(view, plan));
    }
    told.dedup();
    told
}

fn state(view: &View) -> VolumeSnapshot {
    (*view.snapshots.snapshots.get("d", "s").unwrap()).clone()
}

fn content_state(view: &View, name: &str) -> VolumeSnapshotContent {
    (*view.snapshots.contents.get("", name).unwrap()).clone()
}

fn claim_is_held(view: &View) -> bool {
    let claim = view.claims.get("d", "data");
    claim.is_some_and(|claim| has_finalizer(claim.as_ref(), CLAIM_FINALIZER))
}

#[test]
fn a_snapshot_is_made_and_becomes_ready() {
    let view = view(vec![snapshot(json!({}))], vec![]);
    assert_eq!(
        settle(&view),
        ["CreatingSnapshot: Waiting for a snapshot d/s to be created by the CSI driver."]
    );
    let made = content_state(&view, "snapcontent-u1");
    assert_eq!(finalizers(&made), [CONTENT_FINALIZER]);
    assert_eq!(made.spec.source.volume_handle.as_deref(), Some("h1"));
    assert!(made.is_bound_to(&state(&view)));
    assert_eq!(
        (made.spec.driver.as_str(), made.spec.deletion_policy.as_str()),
        ("disks", "Delete")
    );
    let snapshot = state(&view);
    assert_eq!(finalizers(&snapshot), [SOURCE_FINALIZER, BOUND_FINALIZER]);
    assert_eq!(snapshot.bound_to(), Some("snapcontent-u1"));
    assert_eq!(snapshot.spec.volume_snapshot_class_name.as_deref(), Some("usual"));
    assert!(claim_is_held(&view) && !snapshot.is_ready());

    // The driver has cut it and works on it still; then it is done.
    change_content(&view, "snapcontent-u1", made_by_driver(false));
    assert_eq!(
        settle(&view),
        ["SnapshotCreated: Snapshot d/s was successfully created by the CSI driver."]
    );
    let status = state(&view).status.unwrap();
    assert_eq!(status.creation_time.as_deref(), Some("2026-01-01T00:00:00Z"));
    assert_eq!(
        (status.restore_size, status.ready_to_use),
        (Some("1Gi".into()), Some(false))
    );
    assert!(claim_is_held(&view));
    change_content(&view, "snapcontent-u1", made_by_driver(true));
    assert_eq!(settle(&view), ["SnapshotReady: Snapshot d/s is ready to use."]);
    assert!(state(&view).is_ready() && !claim_is_held(&view));
}

#[test]
fn an_error_of_the_driver_is_passed_on_until_it_is_over() {
    let view = view(vec![snapshot(json!({}))], vec![]);
    settle(&view);
    let error = json!({"status": {"readyToUse": false, "error": {"time": "2026-01-01T00:00:00Z", "message": "full"}}});
    change_content(&view, "snapcontent-u1", error);
    assert!(settle(&view).is_empty());
    let message = |view: &View| state(view).status.unwrap().error.and_then(|error| error.message);
    assert_eq!(message(&view).as_deref(), Some("full"));
    change_content(&view, "snapcontent-u1", json!({"status": {"error": null}}));
    change_content(&view, "snapcontent-u1", made_by_driver(true));
    settle(&view);
    assert_eq!((message(&view), state(&view).is_ready()), (None, true));
}

#[test]
fn a_snapshot_that_the_driver_has_already_is_bound() {
    let view = view(vec![given_snapshot()], vec![given(json!({}))]);
    assert!(settle(&view).is_empty());
    let content = content_state(&view, "old");
    assert!(content.is_bound_to(&state(&view)));
    assert_eq!(finalizers(&content), [CONTENT_FINALIZER]);
    change_content(&view, "old", made_by_driver(true));
    assert_eq!(settle(&view).len(), 2);
    // What is kept for good does not hold the snapshot.
    assert_eq!(finalizers(&state(&view)), [SOURCE_FINALIZER]);
}

#[test]
fn what_is_wrong_is_said_once() {
    let claim = |change: Value| {
        let view = view(vec![snapshot(json!({}))], vec![]);
        let claim = json!(view.claims.get("d", "data").unwrap().as_ref());
        view.claims.apply(from(api::patch::merge_patch(claim, change)));
        view
    };
    let named = |class: &str| snapshot(json!({"spec": {"volumeSnapshotClassName": class}}));
    let volume = |spec: Value| {
        let view = view(vec![named("usual")], vec![]);
        let volume = json!({"metadata": {"name": "v"}, "spec": spec});
        view.volumes.apply(from(volume));
        view
    };
    let more = view(vec![snapshot(json!({}))], vec![]);
    more.snapshots.classes.apply(class("second", "disks"));
    let none = view(vec![snapshot(json!({}))], vec![]);
    none.snapshots.classes.remove("", "usual");
    let lost = view(vec![named("usual")], vec![]);
    lost.claims.remove("d", "data");
    let going = view(vec![named("usual")], vec![]);
    going
        .claims
        .apply(from(json!({"metadata": {"name": "data", "namespace": "d",
        "deletionTimestamp": "2026-01-01T00:00:00Z"}})));
    let both = json!({"spec": {"source": {"volumeSnapshotContentName": "old"}}});
    let ready = |more: Value| {
        let status =
            json!({"status": {"readyToUse": true, "boundVolumeSnapshotContentName": "snapcontent-u1"}});
        snapshot(api::patch::merge_patch(status, more))
    };
    let cases: Vec<(View, &str)> = vec![
        (
            view(vec![snapshot(both)], vec![]),
            "SnapshotValidationError: Exactly one of PersistentVolumeClaimName and VolumeSnapshotContentName \
             should be specified",
        ),
        (
            view(vec![named("gone")], vec![]),
            "GetSnapshotClassFailed: Failed to get snapshot class with error \
             volumesnapshotclass.snapshot.storage.k8s.io \"gone\" not found",
        ),
        (
            none,
            "SetDefaultSnapshotClassFailed: Failed to set default snapshot class with error cannot find default \
             snapshot class",
        ),
        (
            more,
            "SetDefaultSnapshotClassFailed: Failed to set default snapshot class with error 2 default snapshot \
             classes were found",
        ),
        (
            claim(json!({"status": {"phase": "Pending"}})),
            "SetDefaultSnapshotClassFailed: Failed to set default snapshot class with error the PVC data is not yet \
             bound to a PV, will not attempt to take a snapshot",
        ),
        (
            lost,
            "SnapshotContentCreationFailed: Failed to create snapshot content with error snapshot controller failed \
             to update s on API server: cannot get claim from snapshot",
        ),
        (
            going,
            "SnapshotContentCreationFailed: Failed to create snapshot content with error snapshot controller failed \
             to update s on API server: cannot add finalizer on claim because it is being deleted",
        ),
        (
            volume(json!({"claimRef": {"name": "data", "namespace": "d"}, "hostPath": {"path": "/x"}})),
            "SnapshotContentCreationFailed: Failed to create snapshot content with error cannot find CSI \
             PersistentVolumeSource for volume v",
        ),
        (
            volume(json!({"claimRef": {"name": "other", "namespace": "d"}})),
            "SnapshotContentCreationFailed: Failed to create snapshot content with error failed to get input \
             parameters to create snapshot s: \"claim in dataSource not bound or invalid\"",
        ),
        (
            view(vec![given_snapshot()], vec![]),
            "SnapshotContentMissing: VolumeSnapshotContent is missing",
        ),
        (
            view(
                vec![given_snapshot()],
                vec![given(
                    json!({"spec": {"source": {"snapshotHandle": null, "volumeHandle": "h1"}}}),
                )],
            ),
            "SnapshotContentMismatch: VolumeSnapshotContent is dynamically provisioned while expecting a \
             pre-provisioned one",
        ),
        (
            view(
                vec![given_snapshot()],
                vec![given(json!({"spec": {"volumeSnapshotRef": {"uid": "u0"}}}))],
            ),
            "SnapshotContentMisbound: VolumeSnapshotContent [old] is bound to a different snapshot",
        ),
        // One that was there and is lost is not made anew: it would be as of another moment.
        (
            view(vec![ready(json!({}))], vec![]),
            "SnapshotContentMissing: VolumeSnapshotContent is missing",
        ),
    ];
    for (view, wanted) in cases {
        let told = settle(&view);
        assert_eq!(told, [wanted]);
        let status = state(&view).status.unwrap();
        let message = status.error.unwrap().message.unwrap();
        assert!(
            wanted.ends_with(&message) && status.ready_to_use != Some(true),
            "{message}"
        );
        assert!(!claim_is_held(&view));
        assert!(settle(&view).is_empty(), "it is said already");
    }
}

#[test]
fn a_class_may_go_once_its_snapshots_are_made() {
    let status = json!({"spec": {"volumeSnapshotClassName": "gone"},
        "status": {"readyToUse": true, "boundVolumeSnapshotContentName": "snapcontent-u1"}});
    let view = view(vec![snapshot(status)], vec![content(made_by_driver(true))]);
    assert!(settle(&view).is_empty());
    assert!(state(&view).is_ready());
}

/// A snapshot that is ready and deleted, whose content has that policy.
fn leaving(policy: &str) -> View {
    let view = view(vec![snapshot(json!({}))], vec![]);
    settle(&view);
    change_content(&view, "snapcontent-u1", made_by_driver(true));
    change_content(
        &view,
        "snapcontent-u1",
        json!({"spec": {"deletionPolicy": policy}}),
    );
    settle(&view);
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let snapshot = api::patch::merge_patch(json!(state(&view)), going);
    view.snapshots.snapshots.apply(from(snapshot));
    view
}

#[test]
fn a_snapshot_goes_after_its_content_or_leaves_it() {
    let marked = |view: &View| {
        let content = content_state(view, "snapcontent-u1");
        api::storage::note(&content.metadata, BEING_DELETED) == "yes"
    };
    let view = leaving("Delete");
    assert!(settle(&view).is_empty());
    assert_eq!(finalizers(&state(&view)), [BOUND_FINALIZER]);
    let content = content_state(&view, "snapcontent-u1");
    assert!(marked(&view) && content.metadata.deletion_timestamp.is_some());
    view.snapshots.contents.remove("", "snapcontent-u1");
    settle(&view);
    assert!(finalizers(&state(&view)).is_empty());

    let view = leaving("Retain");
    settle(&view);
    let content = content_state(&view, "snapcontent-u1");
    assert!(marked(&view) && content.metadata.deletion_timestamp.is_none());
    let left = finalizers(&state(&view)).to_vec();
    assert!(!left.contains(&SOURCE_FINALIZER.to_owned()) && !claim_is_held(&view));
}

#[test]
fn a_snapshot_stays_while_a_claim_is_filled_from_it() {
    let view = leaving("Delete");
    let restored = |phase: &str| {
        from(
            json!({"metadata": {"name": "copy", "namespace": "d"}, "status": {"phase": phase}, "spec": {
            "dataSource": {"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"}}}),
        )
    };
    view.claims.apply(restored("Pending"));
    assert_eq!(
        settle(&view),
        ["SnapshotDeletePending: Snapshot is being used to restore a PVC"]
    );
    assert!(has_finalizer(&state(&view), SOURCE_FINALIZER));
    let claim = view.claims.get("d", "copy").unwrap();
    assert_eq!(snapshots_about_claim(&claim, &view), [Key::new("d", "s")]);
    view.claims.apply(restored("Bound"));
    assert!(settle(&view).is_empty());
    assert!(!has_finalizer(&state(&view), SOURCE_FINALIZER));
}

#[test]
fn a_claim_is_held_until_its_last_snapshot_is_made_or_gone() {
    let second = snapshot(json!({"metadata": {"name": "t", "uid": "u2"}}));
    let view = view(vec![snapshot(json!({})), second], vec![]);
    settle(&view);
    change_content(&view, "snapcontent-u1", made_by_driver(true));
    settle(&view);
    assert!(state(&view).is_ready() && claim_is_held(&view));
    view.snapshots.snapshots.remove("d", "t");
    settle(&view);
    assert!(!claim_is_held(&view));
}

#[test]
fn a_content_alone_is_left_alone() {
    // Somebody brought it from another cluster, or the snapshot of that name is another one by now.
    let other = snapshot(
        json!({"metadata": {"uid": "u9", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "finalizers": [SOURCE_FINALIZER]}}),
    );
    let marked = content(json!({"metadata": {"finalizers": [CONTENT_FINALIZER]}}));
    for snapshots in [vec![], vec![other]] {
        let view = view(snapshots, vec![marked.clone()]);
        settle(&view);
        let content = content_state(&view, "snapcontent-u1");
        assert!(content.metadata.deletion_timestamp.is_none() && content.metadata.annotations.is_none());
    }
    let unclear = content(json!({"spec": {"source": {"snapshotHandle": "too"}}}));
    let told = settle(&view(vec![], vec![unclear]));
    assert_eq!(
        told,
        ["ContentValidationError: Exactly one of VolumeHandle and SnapshotHandle should be specified"]
    );
}
