//! What the controllers of storage decide, played out on caches that take their writes.

use client::Cache;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use serde_json::{Value, json};

use super::*;
use crate::Reconciler;
use crate::plan::{Plan, Target, Write};

fn from<T: client::Object + for<'de> k8s_openapi::serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn view(claims: Vec<Value>, volumes: Vec<Value>, classes: Vec<Value>) -> View {
    View {
        claims: Cache::fixed(claims.into_iter().map(from)),
        volumes: Cache::fixed(volumes.into_iter().map(from)),
        classes: Cache::fixed(classes.into_iter().map(from)),
        nodes: Cache::fixed([from::<Node>(json!({"metadata": {"name": "n1",
            "labels": {"kubernetes.io/hostname": "n1"}, "annotations": {"coracle.dev/local-path": "/data/local-path"}}}))]),
        ..View::empty()
    }
}

fn claim(more: Value) -> Value {
    let claim = json!({"metadata": {"name": "data", "namespace": "d", "uid": "c1"}, "status": {"phase": "Pending"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    api::patch::merge_patch(claim, more)
}

fn volume(more: Value) -> Value {
    let volume = json!({"metadata": {"name": "v", "uid": "v1"}, "status": {"phase": "Available"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "2Gi"}, "hostPath": {"path": "/x"},
        "persistentVolumeReclaimPolicy": "Retain"}});
    api::patch::merge_patch(volume, more)
}

fn class(mode: &str) -> Value {
    json!({"metadata": {"name": "folders"}, "provisioner": "coracle.dev/local-path", "reclaimPolicy": "Delete",
        "volumeBindingMode": mode, "allowVolumeExpansion": true})
}

/// Carries plans out on the caches, as the server would.
fn carry_out(view: &View, plan: &Plan) {
    for write in &plan.writes {
        let target = write.target();
        let current = current(view, target);
        match write {
            Write::Create(_, body) | Write::Update(_, body) => store(view, target, body.clone()),
            Write::Patch(_, _, patch) => {
                store(view, target, api::patch::merge_patch(current, patch.clone()));
            }
            Write::Delete { .. } => view.volumes.remove(&target.key.namespace, &target.key.name),
        }
    }
}

fn current(view: &View, target: &Target) -> Value {
    let key = &target.key;
    match target.resource.plural.as_str() {
        "persistentvolumes" => json!(view.volumes.get("", &key.name).as_deref()),
        _ => json!(view.claims.get(&key.namespace, &key.name).as_deref()),
    }
}

fn store(view: &View, target: &Target, value: Value) {
    match target.resource.plural.as_str() {
        "persistentvolumes" => view.volumes.apply(from(value)),
        _ => view.claims.apply(from(value)),
    }
}

/// Lets binder and provisioner look until nothing changes; the reasons they told.
fn settle(view: &View) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..10 {
        let plans = [
            look(view, claims::Claims, "d", "data"),
            look(view, local_path::LocalPaths, "d", "data"),
            look(view, expansion::Expansion, "d", "data"),
            look(view, persistent::Volumes, "", "v"),
            look(view, persistent::Volumes, "", "pvc-c1"),
        ];
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

fn look(view: &View, reconciler: impl Reconciler, namespace: &str, name: &str) -> Plan {
    let plan = reconciler.reconcile(&Key::new(namespace, name), view, Timestamp::UNIX_EPOCH);
    carry_out(view, &plan);
    plan
}

fn claim_of(view: &View) -> PersistentVolumeClaim {
    (*view.claims.get("d", "data").unwrap()).clone()
}

fn volume_of(view: &View, name: &str) -> PersistentVolume {
    (*view.volumes.get("", name).unwrap()).clone()
}

#[test]
fn a_claim_takes_a_free_volume_and_keeps_it() {
    let view = view(vec![claim(json!({}))], vec![volume(json!({}))], vec![]);
    assert!(settle(&view).is_empty());
    let (claim, volume) = (claim_of(&view), volume_of(&view, "v"));
    assert!(storage::is_bound(&claim) && storage::is_kept_for(&volume, &claim));
    assert_eq!(
        (storage::claim_phase(&claim), storage::volume_phase(&volume)),
        ("Bound", "Bound")
    );
    assert_eq!(json!(claim.status)["capacity"]["storage"], "2Gi");
    assert_eq!(
        storage::note(&claim.metadata, storage::BOUND_BY_CONTROLLER),
        "yes"
    );
    // The claim goes: what is to be kept is kept.
    view.claims.remove("d", "data");
    settle(&view);
    assert_eq!(storage::volume_phase(&volume_of(&view, "v")), "Released");
    // The volume goes under a claim: the claim is lost.
    view.claims.apply(claim);
    view.volumes.remove("", "v");
    let told = settle(&view);
    assert_eq!(
        told,
        ["ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!"]
    );
    assert_eq!(storage::claim_phase(&claim_of(&view)), "Lost");
}

#[test]
fn why_a_claim_waits() {
    let told =
        |claim: Value, volumes: Vec<Value>, classes: Vec<Value>| settle(&view(vec![claim], volumes, classes));
    assert_eq!(
        told(claim(json!({})), vec![], vec![]),
        ["FailedBinding: no persistent volumes available for this claim and no storage class is set"]
    );
    let classed = claim(json!({"spec": {"storageClassName": "folders"}}));
    assert_eq!(
        told(classed.clone(), vec![], vec![]),
        ["ProvisioningFailed: storageclass.storage.k8s.io \"folders\" not found"]
    );
    assert_eq!(
        told(classed.clone(), vec![], vec![class("WaitForFirstConsumer")]),
        ["WaitForFirstConsumer: waiting for first consumer to be created before binding"]
    );
    let immediate = told(classed, vec![], vec![class("Immediate")]);
    assert!(
        immediate.iter().any(|text| text
            == "ProvisioningFailed: failed to provision volume with StorageClass \
        \"folders\": configuration error, no node was specified"),
        "{immediate:?}"
    );
    let named = claim(json!({"spec": {"volumeName": "v"}}));
    let small = volume(json!({"spec": {"capacity": {"storage": "1Mi"}}}));
    assert_eq!(
        told(named.clone(), vec![small], vec![]),
        ["VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small"]
    );
    let foreign = volume(json!({"spec": {"claimRef": {"namespace": "d", "name": "other"}}}));
    assert_eq!(
        told(named, vec![foreign], vec![]),
        ["FailedBinding: volume \"v\" already bound to a different claim."]
    );
}

#[test]
fn a_chosen_node_gets_a_folder_that_grows_and_goes() {
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n1"}},
        "spec": {"storageClassName": "folders"}});
    let view = view(vec![claim(chosen)], vec![], vec![class("WaitForFirstConsumer")]);
    let told = settle(&view);
    assert!(
        told.contains(&"ProvisioningSucceeded: Successfully provisioned volume pvc-c1".to_owned()),
        "{told:?}"
    );
    let volume = volume_of(&view, "pvc-c1");
    assert!(storage::is_bound(&claim_of(&view)));
    assert_eq!(
        json!(volume.spec)["local"]["path"],
        "/data/local-path/pvc-c1_d_data"
    );
    assert!(storage::reaches(&volume, &view.nodes.get("", "n1").unwrap()));
    assert_eq!(storage::note(&volume.metadata, storage::BOUND_BY_CONTROLLER), "");

    let grown = json!({"spec": {"resources": {"requests": {"storage": "3Gi"}}}});
    view.claims
        .apply(from(api::patch::merge_patch(json!(claim_of(&view)), grown)));
    assert_eq!(settle(&view), ["VolumeResizeSuccessful: Resize volume succeeded"]);
    assert_eq!(storage::capacity(&volume_of(&view, "pvc-c1")).to_string(), "3Gi");
    assert_eq!(json!(claim_of(&view).status)["capacity"]["storage"], "3Gi");

    // Released, it is its node's to delete; without the node nobody else would.
    view.claims.remove("d", "data");
    settle(&view);
    assert_eq!(storage::volume_phase(&volume_of(&view, "pvc-c1")), "Released");
    view.nodes.remove("", "n1");
    settle(&view);
    assert!(view.volumes.get("", "pvc-c1").is_none());
}

#[test]
fn a_node_without_room_is_not_asked_again() {
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "gone"}},
        "spec": {"storageClassName": "folders"}});
    let view = view(vec![claim(chosen)], vec![], vec![class("WaitForFirstConsumer")]);
    let told = settle(&view);
    assert!(
        told.iter().any(|text| text.starts_with("ProvisioningFailed")),
        "{told:?}"
    );
    assert_eq!(
        storage::note(&claim_of(&view).metadata, storage::SELECTED_NODE),
        ""
    );
}

#[test]
fn claims_without_a_class_get_the_default_one() {
    let mut default = class("WaitForFirstConsumer");
    default["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    let view = view(vec![claim(json!({}))], vec![], vec![default]);
    settle(&view);
    assert_eq!(storage::class_of_claim(&claim_of(&view)), Some("folders"));
}

#[test]
fn what_cannot_be_deleted_says_so() {
    let released = volume(
        json!({"status": {"phase": "Bound"}, "spec": {"persistentVolumeReclaimPolicy": "Delete",
        "claimRef": {"namespace": "d", "name": "gone", "uid": "g"}}}),
    );
    let view = view(vec![], vec![released], vec![]);
    let told = settle(&view);
    assert_eq!(
        told,
        [
            "VolumeFailedDelete: error getting deleter volume plugin for volume \"v\": no deletable volume plugin matched"
        ]
    );
    assert_eq!(storage::volume_phase(&volume_of(&view, "v")), "Failed");
}

#[test]
fn claims_stay_while_pods_use_them_and_volumes_while_they_are_bound() {
    let view = view(
        vec![claim(json!({}))],
        vec![volume(json!({"status": {"phase": "Bound"}}))],
        vec![],
    );
    let protect = || {
        look(&view, claim_protection::UsedClaims, "d", "data");
        look(&view, volume_protection::BoundVolumes, "", "v");
        (
            claim_of(&view).metadata.finalizers.unwrap_or_default(),
            volume_of(&view, "v").metadata.finalizers.unwrap_or_default(),
        )
    };
    let marks = || {
        (
            vec!["kubernetes.io/pvc-protection".to_owned()],
            vec!["kubernetes.io/pv-protection".to_owned()],
        )
    };
    assert_eq!(protect(), marks());
    let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"nodeName": "n1", "containers": [],
        "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}}]}});
    view.pods.apply(from(pod));
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    view.claims.apply(from(api::patch::merge_patch(
        json!(claim_of(&view)),
        going.clone(),
    )));
    view.volumes
        .apply(from(api::patch::merge_patch(json!(volume_of(&view, "v")), going)));
    assert_eq!(protect(), marks());
    view.pods.remove("d", "p");
    let released = json!({"status": {"phase": "Released"}});
    view.volumes.apply(from(api::patch::merge_patch(
        json!(volume_of(&view, "v")),
        released,
    )));
    assert_eq!(protect(), (vec![], vec![]));
}

#[test]
fn a_pods_own_claim_is_made_from_its_template() {
    let view = view(vec![], vec![], vec![]);
    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": {"accessModes": ["ReadWriteOnce"]}});
    view.pods.apply(from(
        json!({"metadata": {"name": "web", "namespace": "d", "uid": "p1"}, "spec": {"containers": [],
        "volumes": [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": template}}]}}),
    ));
    look(&view, ephemeral::EphemeralVolumes, "d", "web");
    let made = view.claims.get("d", "web-tmp").unwrap();
    assert_eq!(owner(&made), Some(Key::new("d", "web")));
    assert_eq!(made.metadata.labels.as_ref().unwrap()["a"], "b");
    // One of that name that is somebody else's is left alone, and told of.
    let mut foreign = (*made).clone();
    foreign.metadata.owner_references = None;
    view.claims.apply(foreign);
    let plan = look(&view, ephemeral::EphemeralVolumes, "d", "web");
    assert!(plan.writes.is_empty());
    assert_eq!(
        plan.events[0].1.message,
        "ephemeral volume tmp: PVC d/web-tmp was not created for pod d/web (pod is not owner)"
    );
}
