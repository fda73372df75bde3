//! Snapshots of a driver's volumes: taken, restored, cloned, kept and removed, in a cluster to which somebody brought
//! the kinds.

use std::path::Path;

use crate::support::disks::{DRIVER, Disks};
use crate::support::manifests::{idle_pod, with_claim};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// The kinds, as small as they can be.
const KINDS: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: volumesnapshots.snapshot.storage.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-csi/external-snapshotter/pull/814"}
spec:
  group: snapshot.storage.k8s.io
  scope: Namespaced
  names: {plural: volumesnapshots, singular: volumesnapshot, kind: VolumeSnapshot, listKind: VolumeSnapshotList, shortNames: [vs]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    additionalPrinterColumns:
    - {name: ReadyToUse, type: boolean, jsonPath: .status.readyToUse}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [source]
            properties:
              source:
                type: object
                properties: {persistentVolumeClaimName: {type: string}, volumeSnapshotContentName: {type: string}}
                x-kubernetes-validations:
                - {rule: "has(self.persistentVolumeClaimName) != has(self.volumeSnapshotContentName)", message: "one source"}
              volumeSnapshotClassName: {type: string}
          status:
            type: object
            properties:
              boundVolumeSnapshotContentName: {type: string}
              creationTime: {type: string, format: date-time}
              readyToUse: {type: boolean}
              restoreSize: {type: string, x-kubernetes-int-or-string: true}
              error: {type: object, properties: {time: {type: string, format: date-time}, message: {type: string}}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: volumesnapshotclasses.snapshot.storage.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-csi/external-snapshotter/pull/814"}
spec:
  group: snapshot.storage.k8s.io
  scope: Cluster
  names: {plural: volumesnapshotclasses, singular: volumesnapshotclass, kind: VolumeSnapshotClass, listKind: VolumeSnapshotClassList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [driver, deletionPolicy]
        properties:
          driver: {type: string}
          deletionPolicy: {type: string, enum: [Delete, Retain]}
          parameters: {type: object, additionalProperties: {type: string}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: volumesnapshotcontents.snapshot.storage.k8s.io
  annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes-csi/external-snapshotter/pull/814"}
spec:
  group: snapshot.storage.k8s.io
  scope: Cluster
  names: {plural: volumesnapshotcontents, singular: volumesnapshotcontent, kind: VolumeSnapshotContent, listKind: VolumeSnapshotContentList}
  versions:
  - name: v1
    served: true
    storage: true
    subresources: {status: {}}
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [deletionPolicy, driver, source, volumeSnapshotRef]
            properties:
              deletionPolicy: {type: string, enum: [Delete, Retain]}
              driver: {type: string}
              source: {type: object, properties: {volumeHandle: {type: string}, snapshotHandle: {type: string}}}
              sourceVolumeMode: {type: string}
              volumeSnapshotClassName: {type: string}
              volumeSnapshotRef:
                type: object
                x-kubernetes-map-type: atomic
                properties:
                  apiVersion: {type: string}
                  kind: {type: string}
                  name: {type: string}
                  namespace: {type: string}
                  resourceVersion: {type: string}
                  uid: {type: string}
          status:
            type: object
            properties:
              snapshotHandle: {type: string}
              creationTime: {type: integer, format: int64}
              readyToUse: {type: boolean}
              restoreSize: {type: integer, format: int64, minimum: 0}
              error: {type: object, properties: {time: {type: string, format: date-time}, message: {type: string}}}
"#;

/// A cluster with a driver, the kinds of snapshots, and a class of that policy.
fn equipped(dir: &Path, policy: &str) -> (Cluster, Disks) {
    let cluster = Cluster::stocked(dir, &[]);
    let disks = Disks::start(dir, &cluster, "");
    // Nobody brought them yet.
    let none = cluster.refused(&["get", "volumesnapshots"]);
    assert_has(&none, &["the server doesn't have a resource type"]);
    cluster.apply(KINDS);
    cluster.ok(&["wait", "--for=condition=Established", "crd", "--all"]);
    cluster.ok(&["create", "secret", "generic", "key", "--from-literal=door=open"]);
    cluster.apply(&format!(
        "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshotClass\nmetadata:\n  name: usual\n  annotations: \
         {{snapshot.storage.kubernetes.io/is-default-class: \"true\"}}\ndriver: {DRIVER}\ndeletionPolicy: {policy}\n\
         parameters:\n  csi.storage.k8s.io/snapshotter-secret-name: key\n  \
         csi.storage.k8s.io/snapshotter-secret-namespace: ${{volumesnapshot.namespace}}\n"
    ));
    (cluster, disks)
}

fn claim(name: &str, class: &str, source: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{storageClassName: {class}, \
         accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{source}}}\n"
    )
}

fn of_snapshot(name: &str) -> String {
    format!(", dataSource: {{apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: {name}}}")
}

fn snapshot(name: &str, source: &str) -> String {
    format!(
        "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshot\nmetadata: {{name: {name}}}\nspec: {{source: \
         {{{source}}}}}\n"
    )
}

/// A pod of a claim's name that uses it.
fn begin_user(cluster: &Cluster, claim: &str) {
    cluster.apply(&with_claim(&idle_pod(claim), claim));
}

fn note(cluster: &Cluster, pod: &str) -> String {
    cluster.pod_ready(pod);
    cluster.exec(pod, &["cat", "/data/note"]).unwrap()
}

fn write(cluster: &Cluster, pod: &str, text: &str) {
    cluster.pod_ready(pod);
    let script = format!("echo {text} > /data/note");
    cluster.exec(pod, &["sh", "-c", &script]).unwrap();
}

fn delete(cluster: &Cluster, objects: &[&str]) {
    let mut args = vec!["delete", "--timeout=60s"];
    args.extend(objects);
    cluster.ok(&args);
}

#[test]
fn a_snapshot_is_taken_restored_and_removed() {
    sandboxed(|dir| {
        let (cluster, disks) = equipped(dir, "Delete");
        cluster.apply(&claim("data", "disks", ""));
        begin_user(&cluster, "data");
        write(&cluster, "data", "before");

        cluster.apply(&snapshot("first", "persistentVolumeClaimName: data"));
        let first = "volumesnapshot/first";
        cluster.until(first, "{.status.readyToUse}", "true");
        let uid = cluster.field(first, "{.metadata.uid}").unwrap();
        let about =
            "{.status.boundVolumeSnapshotContentName} {.status.restoreSize} {.spec.volumeSnapshotClassName}";
        let wanted = format!("snapcontent-{uid} 1Gi usual");
        assert_eq!(cluster.field(first, about).unwrap(), wanted);
        cluster.event(
            "first",
            "CreatingSnapshot",
            &["default/first to be created by the CSI driver"],
        );
        cluster.event("first", "SnapshotCreated", &["was successfully created"]);
        cluster.event(
            "first",
            "SnapshotReady",
            &["Snapshot default/first is ready to use."],
        );
        // It was asked for until it was ready, under one name and with the Secret of the class.
        let calls = disks.calls(&[
            "CreateSnapshot",
            &format!("snapshot-{uid}"),
            r#"{"door": "open"}"#,
        ]);
        assert!(calls.len() >= 2 && disks.snapshots().len() == 1, "{calls:?}");
        let marks = "{.metadata.finalizers}";
        cluster.until("pvc/data", marks, r#"["kubernetes.io/pvc-protection"]"#);
        eventually("the snapshot is held by its content", || {
            let marks = cluster.field(first, marks)?;
            crate::support::has(
                &marks,
                &[
                    "volumesnapshot-as-source-protection",
                    "volumesnapshot-bound-protection",
                ],
            )
        });

        // What was written since is not in it, and is in a copy of the volume.
        write(&cluster, "data", "after");
        cluster.apply(&claim("restored", "disks", &of_snapshot("first")));
        begin_user(&cluster, "restored");
        assert_eq!(note(&cluster, "restored"), "before\n");
        let newer = "{.spec.dataSourceRef.kind} {.spec.dataSourceRef.name}";
        assert_eq!(
            cluster.field("pvc/restored", newer).unwrap(),
            "VolumeSnapshot first"
        );
        delete(&cluster, &["pod", "restored", "--grace-period=1"]);
        cluster.apply(&claim(
            "cloned",
            "disks",
            ", dataSourceRef: {kind: PersistentVolumeClaim, name: data}",
        ));
        begin_user(&cluster, "cloned");
        assert_eq!(note(&cluster, "cloned"), "after\n");
        assert_eq!(disks.calls(&["CreateVolume", "VolumeSource"]).len(), 1);

        // Folders of the node begin empty.
        cluster.apply(&claim("folder", "local-path", &of_snapshot("first")));
        begin_user(&cluster, "folder");
        cluster.event(
            "folder",
            "ProvisioningFailed",
            &["data sources are not supported"],
        );
        // As long as somebody waits for what is in it, it stays.
        cluster.ok(&["delete", first, "--wait=false"]);
        cluster.event(
            "first",
            "SnapshotDeletePending",
            &["Snapshot is being used to restore a PVC"],
        );
        assert_eq!(disks.snapshots().len(), 1);
        delete(&cluster, &["pod", "folder", "--grace-period=1"]);
        delete(&cluster, &["pvc", "folder"]);
        cluster.ok(&["wait", "--for=delete", first, "--timeout=60s"]);
        assert_eq!(disks.calls(&["DeleteSnapshot", r#"{"door": "open"}"#]).len(), 1);
        assert!(disks.snapshots().is_empty());
        assert_eq!(cluster.ok(&["get", "volumesnapshotcontents", "-o", "name"]), "");

        delete(&cluster, &["pod", "data", "cloned", "--grace-period=1"]);
        delete(&cluster, &["pvc", "data", "restored", "cloned"]);
        disks.assert_gone(&cluster);
    });
}

#[test]
fn a_snapshot_that_is_kept_can_be_had_again() {
    sandboxed(|dir| {
        let (mut cluster, disks) = equipped(dir, "Retain");
        cluster.apply(&claim("data", "disks", ""));
        begin_user(&cluster, "data");
        write(&cluster, "data", "kept");

        // What the driver says is wrong is said of the snapshot, until it is over. The claim stays meanwhile.
        disks.full(true);
        cluster.apply(&snapshot("first", "persistentVolumeClaimName: data"));
        let first = "volumesnapshot/first";
        eventually("the driver's error", || {
            let said = cluster.field(first, "{.status.readyToUse} {.status.error.message}")?;
            crate::support::has(
                &said,
                &["false Failed to create snapshot", "no room for snapshots"],
            )
        });
        let marks = cluster.field("pvc/data", "{.metadata.finalizers}").unwrap();
        assert_has(
            &marks,
            &["snapshot.storage.kubernetes.io/pvc-as-source-protection"],
        );
        disks.full(false);
        cluster.until(first, "{.status.readyToUse}{.status.error}", "true");
        let content = cluster
            .field(first, "{.status.boundVolumeSnapshotContentName}")
            .unwrap();
        let content = format!("volumesnapshotcontent/{content}");
        let handle = cluster.field(&content, "{.status.snapshotHandle}").unwrap();

        // A server that begins anew takes nothing for lost.
        cluster.kill();
        cluster.restart();
        cluster.ready();
        delete(&cluster, &[first]);
        assert_eq!(
            cluster.field(&content, "{.spec.deletionPolicy}").unwrap(),
            "Retain"
        );
        delete(&cluster, &[&content]);
        assert!(disks.calls(&["DeleteSnapshot"]).is_empty());
        assert_eq!(disks.snapshots().len(), 1);

        // What the driver still has is written down, and is a snapshot again.
        cluster.apply(&snapshot("again", "volumeSnapshotContentName: old"));
        cluster.event(
            "again",
            "SnapshotContentMissing",
            &["VolumeSnapshotContent is missing"],
        );
        cluster.apply(&format!(
            "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshotContent\nmetadata: {{name: old}}\nspec: \
             {{deletionPolicy: Delete, driver: {DRIVER}, source: {{snapshotHandle: {handle}}}, volumeSnapshotRef: \
             {{name: again, namespace: default}}}}\n"
        ));
        let again = "volumesnapshot/again";
        cluster.until(
            again,
            "{.status.readyToUse} {.status.restoreSize}{.status.error}",
            "true 1Gi",
        );
        let uid = cluster.field(again, "{.metadata.uid}").unwrap();
        let bound = cluster.field("volumesnapshotcontent/old", "{.spec.volumeSnapshotRef.uid}");
        assert_eq!(bound.unwrap(), uid);
        cluster.apply(&claim("restored", "disks", &of_snapshot("again")));
        begin_user(&cluster, "restored");
        assert_eq!(note(&cluster, "restored"), "kept\n");
        delete(&cluster, &[again]);
        assert_eq!(disks.calls(&["DeleteSnapshot", &handle]).len(), 1);

        delete(&cluster, &["pod", "data", "restored", "--grace-period=1"]);
        delete(&cluster, &["pvc", "data", "restored"]);
        disks.assert_gone(&cluster);
    });
}
