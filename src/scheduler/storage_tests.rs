use serde_json::{Value, json};

use super::*;
use crate::plan::{Choice, choose, refusal};
use crate::snapshot::{PodInfo, Snapshot};

fn from<T: client::Object + for<'de> k8s_openapi::serde::Deserialize<'de>>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn claim(name: &str, more: Value) -> PersistentVolumeClaim {
    let mut claim = json!({"metadata": {"name": name, "namespace": "d", "uid": name}, "spec": {"storageClassName": "late",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    claim = api::patch::merge_patch(claim, more);
    from(claim)
}

fn volume(name: &str, node: &str) -> PersistentVolume {
    from(
        json!({"metadata": {"name": name}, "status": {"phase": "Available"}, "spec": {"storageClassName": "late",
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "local": {"path": "/x"},
        "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}}),
    )
}

fn class(provisioner: &str, mode: &str) -> StorageClass {
    from(json!({"metadata": {"name": "late"}, "provisioner": provisioner, "volumeBindingMode": mode}))
}

fn pod(name: &str, claims: &[&str]) -> Arc<PodInfo> {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    let pod = json!({"metadata": {"name": name, "namespace": "d", "uid": name},
        "spec": {"containers": [{"name": "c"}], "volumes": volumes}});
    Arc::new(PodInfo::new(Arc::new(from(pod))))
}

fn cluster(
    claims: Vec<PersistentVolumeClaim>,
    volumes: Vec<PersistentVolume>,
    class: StorageClass,
) -> Snapshot {
    let drivers = crate::Drivers::default();
    let storage = Storage::new(
        Cache::fixed(claims),
        Cache::fixed(volumes),
        Cache::fixed([class]),
        drivers,
    );
    let mut snapshot = Snapshot::over(storage);
    for name in ["a", "b"] {
        snapshot.set_node(Arc::new(from(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": {},
            "status": {"allocatable": {"cpu": "2", "memory": "4Gi", "pods": "10"}}}))));
    }
    snapshot
}

#[test]
fn a_pod_waits_for_what_is_bound_at_once() {
    let cluster = |claims| cluster(claims, vec![], class("p", "Immediate"));
    let unbound = cluster(vec![claim("data", json!({}))]);
    let not_helpful = "preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    assert_eq!(
        refusal(&pod("p", &["data"]), &unbound),
        format!("0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. {not_helpful}")
    );
    assert_eq!(
        refusal(&pod("p", &["none"]), &unbound),
        format!("0/2 nodes are available: persistentvolumeclaim \"none\" not found. {not_helpful}")
    );
    let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let going = cluster(vec![claim("data", going)]);
    assert!(
        refusal(&pod("p", &["data"]), &going).contains("persistentvolumeclaim \"data\" is being deleted")
    );
}

#[test]
fn a_free_volume_decides_and_is_given_once() {
    let claims = vec![claim("one", json!({})), claim("two", json!({}))];
    let mut snapshot = cluster(
        claims,
        vec![volume("v", "b")],
        class("kubernetes.io/no-provisioner", "WaitForFirstConsumer"),
    );
    let first = pod("p", &["one"]);
    assert_eq!(choose(&first, &snapshot, 0), Choice::Node("b".into()));
    let node = snapshot
        .nodes()
        .find(|node| node.name() == "b")
        .unwrap()
        .node
        .clone();
    let needs = snapshot.storage.needs(&first.pod, &node).unwrap();
    assert!(matches!(needs.as_slice(), [Need::Volume(_, v)] if v.metadata.name.as_deref() == Some("v")));
    snapshot.storage.promise(&needs);
    assert_eq!(
        refusal(&pod("q", &["two"]), &snapshot),
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind. preemption: 0/2 \
         nodes are available: 2 Preemption is not helpful for scheduling."
    );
    snapshot.storage.take_back(&first.pod);
    assert_eq!(
        choose(&pod("q", &["two"]), &snapshot, 0),
        Choice::Node("b".into())
    );
    // Two claims of one pod do not share it.
    assert!(refusal(&pod("r", &["one", "two"]), &snapshot).contains("didn't find available"));
}

#[test]
fn volumes_are_made_where_the_pod_goes_and_bound_ones_hold_it() {
    let chosen = json!({"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "b"}}});
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}});
    let claims = vec![
        claim("new", json!({})),
        claim("chosen", chosen),
        claim("bound", bound),
    ];
    let snapshot = cluster(claims, vec![volume("v", "a")], class("p", "WaitForFirstConsumer"));
    assert_eq!(
        choose(&pod("p", &["chosen"]), &snapshot, 0),
        Choice::Node("b".into())
    );
    assert_eq!(
        choose(&pod("p", &["bound"]), &snapshot, 1),
        Choice::Node("a".into())
    );
    assert_eq!(
        choose(&pod("p", &["new", "bound"]), &snapshot, 1),
        Choice::Node("a".into())
    );
    let torn = refusal(&pod("p", &["chosen", "bound"]), &snapshot);
    assert!(
        torn.contains("1 node(s) didn't match PersistentVolume's node affinity"),
        "{torn}"
    );
}

#[test]
fn a_claim_for_one_pod_is_used_by_one() {
    let alone = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}},
        "spec": {"volumeName": "v", "accessModes": ["ReadWriteOncePod"]}, "status": {"phase": "Bound"}});
    let mut snapshot = cluster(
        vec![claim("data", alone)],
        vec![volume("v", "a")],
        class("p", "WaitForFirstConsumer"),
    );
    snapshot.assume(pod("first", &["data"]), "a");
    assert_eq!(
        refusal(&pod("second", &["data"]), &snapshot),
        "0/2 nodes are available: 2 node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod \
         access mode. preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod."
    );
    snapshot.remove_pod("first");
    assert_eq!(
        choose(&pod("second", &["data"]), &snapshot, 0),
        Choice::Node("a".into())
    );
}
