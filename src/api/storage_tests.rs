use serde_json::{Value, json};

use super::*;

fn claim(spec: Value) -> PersistentVolumeClaim {
    let mut claim = json!({"metadata": {"name": "data", "namespace": "d", "uid": "c1"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "2Gi"}}, "storageClassName": "slow"}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        claim["spec"][key] = value.clone();
    }
    serde_json::from_value(claim).unwrap()
}

fn volume(name: &str, size: &str, spec: Value) -> Arc<PersistentVolume> {
    let mut volume = json!({"metadata": {"name": name, "labels": {"disk": name}}, "spec": {
        "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "slow",
        "hostPath": {"path": "/x"}}, "status": {"phase": "Available"}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        volume["spec"][key] = value.clone();
    }
    Arc::new(serde_json::from_value(volume).unwrap())
}

fn chosen(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>], node: Option<&Node>) -> String {
    let found = best_match(claim, volumes, node, |_| false);
    found.map_or_else(String::new, |volume| volume.metadata.name.clone().unwrap())
}

#[test]
fn the_smallest_that_fits_is_taken() {
    let volumes = [
        volume("tiny", "1Gi", json!({})),
        volume("large", "9Gi", json!({})),
        volume("right", "3Gi", json!({})),
        volume("other-class", "2Gi", json!({"storageClassName": "fast"})),
        volume("block", "2Gi", json!({"volumeMode": "Block"})),
        volume("read-only", "2Gi", json!({"accessModes": ["ReadOnlyMany"]})),
        volume(
            "many",
            "2Gi",
            json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}),
        ),
    ];
    assert_eq!(chosen(&claim(json!({})), &volumes, None), "right");
    let picky = claim(json!({"selector": {"matchLabels": {"disk": "large"}}}));
    assert_eq!(chosen(&picky, &volumes, None), "large");
    assert_eq!(
        chosen(&claim(json!({"storageClassName": ""})), &volumes, None),
        ""
    );
    let taken = best_match(&claim(json!({})), &volumes, None, |v| {
        v.metadata.name.as_deref() == Some("right")
    });
    assert_eq!(taken.unwrap().metadata.name.as_deref(), Some("large"));
}

#[test]
fn what_is_kept_for_a_claim_comes_first_and_others_leave_it_alone() {
    let kept = json!({"claimRef": {"name": "data", "namespace": "d"}});
    let volumes = [volume("right", "2Gi", json!({})), volume("kept", "9Gi", kept)];
    assert_eq!(chosen(&claim(json!({})), &volumes, None), "kept");
    let foreign = json!({"claimRef": {"name": "data", "namespace": "d", "uid": "older"}});
    let volumes = [volume("foreign", "2Gi", foreign)];
    assert_eq!(chosen(&claim(json!({})), &volumes, None), "");
}

#[test]
fn a_node_gets_what_it_can_reach() {
    let here = json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}});
    let node = |name: &str| -> Node {
        serde_json::from_value(
            json!({"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}}),
        )
        .unwrap()
    };
    let volumes = [volume("local", "2Gi", here)];
    assert_eq!(chosen(&claim(json!({})), &volumes, Some(&node("n1"))), "local");
    assert_eq!(chosen(&claim(json!({})), &volumes, Some(&node("n2"))), "");
}

#[test]
fn the_newest_default_class_counts() {
    let class = |name: &str, marked: &str, born: &str| {
        let class = json!({"metadata": {"name": name, "creationTimestamp": born,
            "annotations": {"storageclass.kubernetes.io/is-default-class": marked}}, "provisioner": "p"});
        Arc::new(serde_json::from_value::<StorageClass>(class).unwrap())
    };
    let classes = [
        class("old", "true", "2025-01-01T00:00:00Z"),
        class("unmarked", "false", "2026-01-01T00:00:00Z"),
        class("new-b", "true", "2025-06-01T00:00:00Z"),
        class("new-a", "true", "2025-06-01T00:00:00Z"),
    ];
    let found = default_class(&classes).unwrap();
    assert_eq!(found.metadata.name.as_deref(), Some("new-a"));
    assert!(default_class(&classes[1..2]).is_none());
}

#[test]
fn a_pods_claims_have_names_and_owners() {
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "d", "uid": "p1"}, "spec": {
        "containers": [], "volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "data"}},
            {"name": "b", "ephemeral": {}}, {"name": "c", "emptyDir": {}}]}}),
    )
    .unwrap();
    let found: Vec<_> = claims_of(&pod).collect();
    assert_eq!(found, [("data".to_owned(), false), ("web-b".to_owned(), true)]);
    let mut own = claim(json!({}));
    assert_eq!(
        is_own(&pod, &own).unwrap_err(),
        "PVC d/data was not created for pod d/web (pod is not owner)"
    );
    own.metadata.owner_references = Some(vec![
        serde_json::from_value(json!(
        {"apiVersion": "v1", "kind": "Pod", "name": "web", "uid": "p1", "controller": true}))
        .unwrap(),
    ]);
    assert_eq!(is_own(&pod, &own), Ok(()));
}

#[test]
fn why_a_volume_will_not_do() {
    let wanted = claim(json!({}));
    assert_eq!(
        mismatch(&wanted, &volume("v", "1Gi", json!({}))),
        Some("requested PV is too small")
    );
    assert_eq!(
        mismatch(&wanted, &volume("v", "2Gi", json!({"storageClassName": ""}))),
        Some("storageClassName does not match")
    );
    assert_eq!(
        mismatch(
            &wanted,
            &volume("v", "2Gi", json!({"accessModes": ["ReadOnlyMany"]}))
        ),
        Some("incompatible accessMode")
    );
    let golden = claim(json!({"volumeAttributesClassName": "gold"}));
    assert_eq!(
        mismatch(&golden, &volume("v", "2Gi", json!({}))),
        Some("volumeAttributesClassName does not match")
    );
    assert_eq!(chosen(&golden, &[volume("v", "2Gi", json!({}))], None), "");
    let gold = volume("v", "2Gi", json!({"volumeAttributesClassName": "gold"}));
    assert_eq!(chosen(&golden, &[gold], None), "v");
    assert_eq!(mismatch(&wanted, &volume("v", "2Gi", json!({}))), None);
}
