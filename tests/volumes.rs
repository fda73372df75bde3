//! Storage that outlives pods, by kubectl against the real node: claims, folders of the node, what waits
//! for whom, what stays and what goes.

use std::path::PathBuf;

use crate::support::manifests::{BUSYBOX, IDLE, command_pod, idle_pod, with_claim};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

/// A claim for a gibibyte; `more` are further fields of its specification.
fn claim(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{accessModes: \
         [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{more}}}\n"
    )
}

fn idle_with(name: &str, claim: &str) -> String {
    with_claim(&idle_pod(name), claim)
}

fn guest_with(name: &str, claim: &str, args: &[&str]) -> String {
    with_claim(&command_pod(name, "local/hello-cli:1", args), claim)
}

fn phase(cluster: &Cluster, object: &str) -> String {
    cluster.field(object, "{.status.phase}").expect("a phase")
}

fn delete(cluster: &Cluster, object: &str) {
    cluster.ok(&["delete", object, "--timeout=60s"]);
}

/// The folders of volumes on the node.
fn folders(cluster: &Cluster) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(cluster.dir.join("local-path"));
    entries
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

#[test]
fn a_claim_is_a_folder_that_outlives_its_pods() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        // The class is there, and the default.
        let classes = cluster.ok(&["get", "storageclass"]);
        assert_has(
            &classes,
            &["local-path (default)", "WaitForFirstConsumer", "Delete", "true"],
        );
        cluster.apply(&claim("data", ""));
        cluster.event(
            "data",
            "WaitForFirstConsumer",
            &["waiting for first consumer to be created before binding"],
        );
        assert_eq!(phase(&cluster, "pvc/data"), "Pending");

        // One sort of container writes, the other reads.
        cluster.apply(&idle_with("box", "data"));
        cluster.pod_ready("box");
        cluster.event(
            "data",
            "ProvisioningSucceeded",
            &["Successfully provisioned volume pvc-"],
        );
        let row = cluster.ok(&["get", "pvc", "data"]);
        assert_has(&row, &["Bound", "pvc-", "1Gi", "RWO", "local-path"]);
        cluster
            .exec("box", &["sh", "-c", "echo from oci > /data/note"])
            .unwrap();
        cluster.apply(&guest_with(
            "guest",
            "data",
            &["--read", "/data/note", "--write", "/data/back", "from wasm"],
        ));
        assert_eq!(cluster.finished("guest"), "Succeeded");
        assert_has(&cluster.ok(&["logs", "guest"]), &["file /data/note: from oci"]);
        assert_eq!(cluster.exec("box", &["cat", "/data/back"]).unwrap(), "from wasm");
        assert_eq!(folders(&cluster).len(), 1);

        // It grows by being asked for more.
        let more = r#"{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}"#;
        cluster.ok(&["patch", "pvc", "data", "-p", more]);
        cluster.until("pvc/data", "{.status.capacity.storage}", "3Gi");

        // Deleted while pods use it, it stays; and what it holds outlives the pods and the node's process.
        cluster.ok(&["delete", "pvc", "data", "--wait=false"]);
        assert_has(&cluster.ok(&["get", "pvc", "data"]), &["Terminating"]);
        cluster.kill();
        cluster.restart();
        cluster.ready();
        cluster.pod_ready("box");
        assert_eq!(cluster.exec("box", &["cat", "/data/note"]).unwrap(), "from oci\n");
        delete(&cluster, "pod/guest");
        assert_has(&cluster.ok(&["get", "pvc", "data"]), &["Terminating"]);
        delete(&cluster, "pod/box");
        cluster.ok(&["wait", "--for=delete", "pvc/data", "--timeout=60s"]);
        eventually("no volume and no folder", || {
            let volumes = cluster.try_ok(&["get", "pv", "--no-headers"])?;
            match (volumes.is_empty(), folders(&cluster).as_slice()) {
                (true, []) => Ok(()),
                (_, left) => Err(format!("{volumes} {left:?}")),
            }
        });
    });
}

#[test]
fn volumes_that_are_there_are_bound_by_what_claims_ask() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let node = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let disk = dir.join("disk");
        std::fs::create_dir(&disk).expect("a folder");
        let volume = |name: &str, size: &str, class: &str, source: &str| {
            format!(
                "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}, labels: {{disk: {name}}}}}\nspec:\n  \
                 capacity: {{storage: {size}}}\n  accessModes: [ReadWriteOnce]\n  storageClassName: {class}\n  {source}\n"
            )
        };
        let host = format!("hostPath: {{path: {}}}", disk.display());
        // The smallest that fits, at once, without any pod.
        cluster.apply(&volume("small", "500Mi", "manual", &host));
        cluster.apply(&volume("right", "2Gi", "manual", &host));
        cluster.apply(&volume("large", "5Gi", "manual", &host));
        for name in ["small", "right", "large"] {
            cluster.until(&format!("pv/{name}"), "{.status.phase}", "Available");
        }
        cluster.apply(&claim("any", ", storageClassName: manual"));
        cluster.until(
            "pvc/any",
            "{.spec.volumeName} {.status.phase} {.status.capacity.storage}",
            "right Bound 2Gi",
        );
        cluster.until("pv/right", "{.status.phase} {.spec.claimRef.name}", "Bound any");
        assert_eq!(phase(&cluster, "pv/large"), "Available");
        cluster.apply(&claim(
            "picky",
            ", storageClassName: manual, selector: {matchLabels: {disk: small}}",
        ));
        cluster.event(
            "picky",
            "ProvisioningFailed",
            &["storageclass.storage.k8s.io \"manual\" not found"],
        );

        // Kept, as its policy says; a bound volume cannot go before its claim.
        cluster.apply(&idle_with("box", "any"));
        cluster.pod_ready("box");
        cluster
            .exec("box", &["sh", "-c", "echo kept > /data/note"])
            .unwrap();
        delete(&cluster, "pod/box");
        cluster.ok(&["delete", "pv", "right", "--wait=false"]);
        assert_eq!(phase(&cluster, "pv/right"), "Bound");
        delete(&cluster, "pvc/any");
        cluster.ok(&["wait", "--for=delete", "pv/right", "--timeout=60s"]);
        assert_eq!(
            std::fs::read_to_string(disk.join("note")).expect("the note"),
            "kept\n"
        );

        // A local volume that waits for a pod is given by the scheduler, and leads pods to its node.
        cluster.apply(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: disks}\nprovisioner: \
             kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer\n",
        );
        let local = |host: &str| {
            format!(
                "local: {{path: {}}}\n  nodeAffinity: {{required: {{nodeSelectorTerms: [{{matchExpressions: \
                 [{{key: kubernetes.io/hostname, operator: In, values: [{host}]}}]}}]}}}}",
                disk.display()
            )
        };
        cluster.apply(&volume("elsewhere", "1Gi", "disks", &local("another-machine")));
        cluster.apply(&claim("disk", ", storageClassName: disks"));
        cluster.apply(&idle_with("reader", "disk"));
        cluster.event(
            "reader",
            "FailedScheduling",
            &["0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind."],
        );
        cluster.apply(&volume("here", "1Gi", "disks", &local(&node)));
        cluster.pod_ready("reader");
        assert_eq!(cluster.exec("reader", &["cat", "/data/note"]).unwrap(), "kept\n");
        assert_eq!(cluster.field("pvc/disk", "{.spec.volumeName}").unwrap(), "here");
        assert_eq!(phase(&cluster, "pv/elsewhere"), "Available");
        // What is behind the volume is not the node's to unmount or remove.
        delete(&cluster, "pod/reader");
        delete(&cluster, "pvc/disk");
        cluster.until("pv/here", "{.status.phase}", "Released");
        assert!(disk.join("note").exists());
    });
}

#[test]
fn pods_wait_for_claims_that_cannot_be_used() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let told = |pod: &str, why: &str| {
            let text = format!(
                "0/1 nodes are available: {why}. preemption: 0/1 nodes are available: 1 Preemption is not helpful \
                 for scheduling."
            );
            cluster.event(pod, "FailedScheduling", &[&text]);
        };
        cluster.apply(&idle_with("early", "none"));
        told("early", "persistentvolumeclaim \"none\" not found");
        cluster.apply(&claim("none", ", storageClassName: \"\""));
        cluster.event(
            "none",
            "FailedBinding",
            &["no persistent volumes available for this claim"],
        );
        told("early", "pod has unbound immediate PersistentVolumeClaims");

        // A claim for one pod is one pod's.
        let alone = claim("alone", "").replace("ReadWriteOnce", "ReadWriteOncePod");
        cluster.apply(&alone);
        cluster.apply(&idle_with("first", "alone"));
        cluster.pod_ready("first");
        cluster.apply(&idle_with("second", "alone"));
        cluster.event(
            "second",
            "FailedScheduling",
            &["node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode"],
        );
        delete(&cluster, "pod/first");
        cluster.pod_ready("second");
    });
}

#[test]
fn a_pod_brings_its_own_claim_and_group() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: own}}
spec:
  securityContext: {{runAsUser: 1000, runAsGroup: 1000, fsGroup: 2000}}
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, "echo mine > /data/note; {IDLE}"]
    volumeMounts: [{{name: scratch, mountPath: /data}}]
  - name: wasm
    image: local/hello-http:1
    volumeMounts: [{{name: scratch, mountPath: /data, readOnly: true}}]
  volumes:
  - name: scratch
    ephemeral:
      volumeClaimTemplate:
        metadata: {{labels: {{kind: scratch}}}}
        spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 100Mi}}}}}}
"#
        ));
        cluster.pod_ready("own");
        let owner =
            "{.metadata.ownerReferences[0].kind} {.metadata.ownerReferences[0].name} {.metadata.labels.kind}";
        assert_eq!(
            cluster.field("pvc/own-scratch", owner).unwrap(),
            "Pod own scratch"
        );
        let whose = cluster
            .exec("own", &["stat", "-c", "%u %g", "/data/note"])
            .unwrap();
        assert_eq!(whose, "1000 2000\n");
        assert_has(&cluster.ok(&["describe", "pod", "own"]), &["EphemeralVolume"]);
        delete(&cluster, "pod/own");
        cluster.ok(&["wait", "--for=delete", "pvc/own-scratch", "--timeout=60s"]);
        eventually("no folder", || match folders(&cluster).as_slice() {
            [] => Ok(()),
            left => Err(format!("{left:?}")),
        });
    });
}

#[test]
fn an_image_is_a_volume_to_be_read() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: reader}}
spec:
  containers:
  - name: main
    image: {BUSYBOX}
    command: [sh, -c, {IDLE:?}]
    volumeMounts: [{{name: tools, mountPath: /tools}}, {{name: tools, mountPath: /part, subPath: bin}}]
  - name: wasm
    image: local/hello-http:1
    volumeMounts: [{{name: tools, mountPath: /tools}}]
  volumes:
  - {{name: tools, image: {{reference: "{BUSYBOX}", pullPolicy: Never}}}}
"#
        ));
        cluster.pod_ready("reader");
        assert_has(
            &cluster.exec("reader", &["ls", "/tools/bin"]).unwrap(),
            &["busybox"],
        );
        let part = cluster.exec("reader", &["ls", "/part"]).unwrap();
        assert_has(&part, &["busybox"]);
        let written = cluster.exec("reader", &["touch", "/part/new"]).unwrap_err();
        assert_has(&written, &["Read-only file system"]);
        let written = cluster.exec("reader", &["touch", "/tools/new"]).unwrap_err();
        assert_has(&written, &["Read-only file system"]);
        let run = cluster
            .exec("reader", &["sh", "-c", "/tools/bin/busybox true"])
            .unwrap_err();
        assert_has(&run, &["Permission denied"]);
        delete(&cluster, "pod/reader");
        cluster.apply(&guest_with("none", "x", &[]).replace(
            "persistentVolumeClaim: {claimName: x}",
            "image: {reference: \"local/missing:1\", pullPolicy: Never}",
        ));
        cluster.event(
            "none",
            "FailedMount",
            &["ErrImageNeverPull", "is not present with pull policy of Never"],
        );
    });
}

#[test]
fn a_server_that_cannot_be_mounted_is_named() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let with = |name: &str, source: &str| {
            format!(
                "{}\n    volumeMounts: [{{name: data, mountPath: /data}}]\n  volumes: [{{name: data, {source}}}]\n",
                idle_pod(name).trim_end()
            )
        };
        cluster.apply(&with("served", "nfs: {server: 127.0.0.1, path: /export}"));
        let known = std::fs::read_to_string("/proc/filesystems").expect("the kernel's file systems");
        let why = match known.lines().any(|line| line.ends_with("\tnfs")) {
            true => "",
            false => "this machine's kernel has no NFS client",
        };
        cluster.event(
            "served",
            "FailedMount",
            &["mount of 127.0.0.1:/export failed: ", why],
        );
        // Kinds that no node of ours has.
        cluster.apply(&with(
            "target",
            "iscsi: {targetPortal: '127.0.0.1', iqn: iqn.2001-04.com.example:d, lun: 0}",
        ));
        let why = "volumes of kind iscsi are not supported by this node";
        cluster.event("target", "FailedMount", &[why]);
        delete(&cluster, "pod/served");
        delete(&cluster, "pod/target");
    });
}
