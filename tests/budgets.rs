//! PodDisruptionBudgets over the pods of any kind that has a scale.

use crate::support::{Cluster, assert_has, eventually, sandboxed};

const FLEETS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: fleets.sea.example.com}
spec:
  group: sea.example.com
  scope: Namespaced
  names: {plural: fleets, singular: fleet, kind: Fleet}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {scale: {specReplicasPath: .spec.boats, statusReplicasPath: .status.boats}}
"#;

/// A Wasm pod `OWNER-N` that the object manages.
fn pod_of(cluster: &Cluster, api_version: &str, kind: &str, owner: &str, number: u32) -> String {
    let object = format!("{}/{owner}", kind.to_lowercase());
    let uid = cluster.field(&object, "{.metadata.uid}").expect("an owner");
    format!(
        r#"
---
apiVersion: v1
kind: Pod
metadata:
  name: {owner}-{number}
  labels: {{app: {owner}}}
  ownerReferences: [{{apiVersion: {api_version}, kind: {kind}, name: {owner}, uid: {uid}, controller: true}}]
spec: {{containers: [{{name: web, image: "local/hello-http:1"}}]}}
"#
    )
}

/// Three ready pods of the object, and a budget that lets one of all that are wanted be missing.
fn guarded(cluster: &Cluster, api_version: &str, kind: &str, owner: &str) {
    let pods: Vec<String> = (0..3)
        .map(|number| pod_of(cluster, api_version, kind, owner, number))
        .collect();
    cluster.apply(&pods.concat());
    for number in 0..3 {
        cluster.pod_ready(&format!("{owner}-{number}"));
    }
    budget(cluster, owner);
}

/// A budget over the owner's pods that lets one be missing.
fn budget(cluster: &Cluster, owner: &str) {
    let selector = format!("--selector=app={owner}");
    cluster.ok(&[
        "create",
        "poddisruptionbudget",
        owner,
        &selector,
        "--max-unavailable=1",
    ]);
}

fn counts(cluster: &Cluster, budget: &str, wanted: &str) {
    let path = "{.status.expectedPods} {.status.desiredHealthy} {.status.currentHealthy} {.status.disruptionsAllowed}";
    cluster.until(&format!("pdb/{budget}"), path, wanted);
}

fn evict(cluster: &Cluster, pod: &str) -> Result<String, String> {
    let path = format!("/api/v1/namespaces/default/pods/{pod}/eviction");
    let body = format!(r#"{{"apiVersion":"policy/v1","kind":"Eviction","metadata":{{"name":"{pod}"}}}}"#);
    cluster.feed(&["create", "--raw", &path, "-f", "-"], &body)
}

#[test]
fn pods_of_a_custom_kind_are_counted_by_its_scale() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(FLEETS);
        let fleet =
            "{apiVersion: sea.example.com/v1, kind: Fleet, metadata: {name: north}, spec: {boats: 4}}";
        eventually("the kind", || cluster.feed(&["apply", "-f", "-"], fleet));
        guarded(&cluster, "sea.example.com/v1", "Fleet", "north");
        // One of the four that are wanted is missing already.
        counts(&cluster, "north", "4 3 3 0");
        assert_has(
            &evict(&cluster, "north-0").unwrap_err(),
            &["Cannot evict pod as it would violate the pod's disruption budget."],
        );
        cluster.ok(&["scale", "fleet", "north", "--replicas=3"]);
        counts(&cluster, "north", "3 2 3 1");
        evict(&cluster, "north-0").expect("an eviction");
        counts(&cluster, "north", "3 2 2 0");
    });
}

#[test]
fn pods_of_a_kind_without_a_scale_are_told_of() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.ok(&["create", "configmap", "plain"]);
        guarded(&cluster, "v1", "ConfigMap", "plain");
        cluster.event(
            "plain",
            "CalculateExpectedPodCountFailed",
            &["configmaps does not implement the scale subresource"],
        );
        cluster.until("pdb/plain", "{.status.conditions[0].reason}", "SyncFailed");
        assert!(evict(&cluster, "plain-0").is_err());
    });
}

#[test]
fn pods_of_a_replication_controller_are_made_and_counted() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let template = r#"{metadata: {labels: {app: old}}, spec: {containers: [{name: web, image: "local/hello-http:1"}]}}"#;
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: ReplicationController, metadata: {{name: old}}, spec: {{replicas: 3, template: {template}}}}}"
        ));
        cluster.until("rc/old", "{.status.readyReplicas}", "3");
        budget(&cluster, "old");
        counts(&cluster, "old", "3 2 3 1");
        cluster.ok(&["scale", "rc", "old", "--replicas=1"]);
        cluster.until("rc/old", "{.status.replicas}", "1");
        // What it leaves behind, it finds again.
        cluster.ok(&["delete", "rc", "old", "--cascade=orphan"]);
        cluster.apply(&format!(
            "{{apiVersion: v1, kind: ReplicationController, metadata: {{name: new}}, spec: {{replicas: 2, selector: {{app: old}}, template: {template}}}}}"
        ));
        cluster.until("rc/new", "{.status.replicas}", "2");
        cluster.ok(&["delete", "rc", "new"]);
        eventually("no pods", || {
            let left = cluster.ok(&["get", "pods", "-l", "app=old", "-o", "name"]);
            left.trim().is_empty().then_some(()).ok_or(left)
        });
    });
}
