//! The public CSI driver `csi-driver-host-path` with its public helpers: what `csi` and `snapshots` try with a driver
//! of ours, with somebody else's.
//!
//! These programs do not come with this repository, so the scenarios are no part of the everyday run: `make csi-peer
//! PROGRAMS=FOLDER` runs them.

use std::path::Path;

use crate::support::disks::node;
use crate::support::manifests::{command_pod, idle_pod, with_claim};
use crate::support::peer::{DRIVER, Peer};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn claim(name: &str, class: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{storageClassName: {class}, \
         accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 64Mi}}}}{more}}}\n"
    )
}

fn user(name: &str, claim: &str) -> String {
    with_claim(&idle_pod(name), claim)
}

/// A cluster with the driver.
fn equipped(dir: &Path) -> (Cluster, Peer) {
    let cluster = Cluster::stocked(dir, &[]);
    let peer = Peer::start(dir, &cluster);
    (cluster, peer)
}

fn sh(cluster: &Cluster, pod: &str, script: &str) -> String {
    cluster.pod_ready(pod);
    cluster.exec(pod, &["sh", "-c", script]).unwrap()
}

fn delete(cluster: &Cluster, objects: &[&str]) {
    let mut args = vec!["delete", "--timeout=60s"];
    args.extend(objects);
    cluster.ok(&args);
}

#[test]
#[ignore = "needs the public driver's programs (make csi-peer)"]
fn its_volume_is_made_attached_shared_grown_and_removed() {
    sandboxed(|dir| {
        let (mut cluster, mut peer) = equipped(dir);
        let name = node(&cluster);
        let label = r"{.metadata.labels.topology\.hostpath\.csi/node}";
        cluster.until(&format!("node/{name}"), label, &name);

        // One class waits for a pod, the other does not; its volume knows where it can be used.
        cluster.apply(&claim("data", "early", ""));
        cluster.until("pvc/data", "{.status.phase}", "Bound");
        let volume = cluster.field("pvc/data", "{.spec.volumeName}").unwrap();
        let place = "{.spec.nodeAffinity.required.nodeSelectorTerms[0].matchExpressions[0]['key', 'values']}";
        let place = cluster.field(&format!("pv/{volume}"), place).unwrap();
        assert_has(&place, &["topology.hostpath.csi/node", &name]);
        cluster.apply(&claim("other", "late", ""));
        cluster.event("other", "WaitForFirstConsumer", &["waiting for first consumer"]);
        delete(&cluster, &["pvc", "other"]);

        let group = "spec:\n  securityContext: {fsGroup: 2000}\n";
        cluster.apply(&user("box", "data").replacen("spec:\n", group, 1));
        cluster.pod_ready("box");
        cluster.event("box", "SuccessfulAttachVolume", &["succeeded for volume \"pvc-"]);
        // Its helper asks again when it has not yet heard of what it has just written itself.
        assert!(peer.count("ControllerPublishVolume") >= 1);
        assert_eq!(peer.calls("ControllerPublishVolume")[0]["node_id"], name.as_str());
        let place = &peer.calls("NodePublishVolume")[0]["staging_target_path"];
        assert_eq!(*place, peer.calls("NodeStageVolume")[0]["staging_target_path"]);
        assert_eq!(sh(&cluster, "box", "stat -c %g /data"), "2000\n");

        // Two more pods, of either sort, share what is staged once.
        sh(&cluster, "box", "echo from oci > /data/note");
        cluster.apply(&user("second", "data"));
        assert_eq!(sh(&cluster, "second", "cat /data/note"), "from oci\n");
        let guest = command_pod("guest", "local/hello-cli:1", &["--read", "/data/note"]);
        cluster.apply(&with_claim(&guest, "data"));
        assert_eq!(cluster.finished("guest"), "Succeeded");
        assert_has(&cluster.ok(&["logs", "guest"]), &["file /data/note: from oci"]);
        delete(&cluster, &["pod", "guest", "second"]);
        assert_eq!(
            (peer.count("NodeStageVolume"), peer.count("NodeUnstageVolume")),
            (1, 0)
        );
        assert_eq!(
            (peer.count("NodePublishVolume"), peer.count("NodeUnpublishVolume")),
            (3, 2)
        );

        // It grows while it is used, and says how full it is.
        let more = r#"{"spec":{"resources":{"requests":{"storage":"96Mi"}}}}"#;
        cluster.ok(&["patch", "pvc", "data", "-p", more]);
        let size = "{.status.capacity.storage}{.status.conditions}";
        cluster.until("pvc/data", size, "96Mi");
        let grown = "MountVolume.NodeExpandVolume succeeded";
        cluster.event("data", "FileSystemResizeSuccessful", &[grown]);
        let asked = &peer.calls("NodeExpandVolume")[0]["capacity_range"]["required_bytes"];
        assert_eq!(*asked, 96 << 20);
        let metrics = ["get", "--raw", &format!("/api/v1/nodes/{name}/proxy/metrics")];
        let line = r#"kubelet_volume_stats_used_bytes{namespace="default",persistentvolumeclaim="data"} "#;
        assert_has(&cluster.ok(&metrics), &[line]);

        // Driver and agent die, one after the other: what is shown stays, and is taken back by those that come after.
        // Some releases of the driver write down what they know of their volumes only when they make one.
        cluster.apply(&claim("spare", "early", ""));
        cluster.until("pvc/spare", "{.status.phase}", "Bound");
        peer.kill("hostpathplugin");
        assert_eq!(sh(&cluster, "box", "cat /data/note"), "from oci\n");
        cluster.apply(&user("later", "data"));
        cluster.event("later", "FailedMount", &["rpc error: code = Unavailable"]);
        peer.begin("hostpathplugin");
        // Helpers end when they notice that they have lost it, and a kubelet begins them again.
        for helper in ["csi-provisioner", "csi-attacher", "csi-resizer"] {
            peer.kill(helper);
            peer.begin(helper);
        }
        assert_eq!(sh(&cluster, "later", "cat /data/note"), "from oci\n");
        cluster.kill();
        cluster.restart();
        cluster.ready();
        assert_eq!(sh(&cluster, "box", "cat /data/note"), "from oci\n");
        delete(&cluster, &["pod", "box", "later"]);
        assert_eq!(peer.count("NodeUnstageVolume"), 1);
        eventually("the volume is detached", || {
            match peer.count("ControllerUnpublishVolume") {
                0 => Err("not yet".to_owned()),
                _ => Ok(()),
            }
        });
        delete(&cluster, &["pvc", "data", "spare"]);
        peer.assert_gone(&cluster);
    });
}

#[test]
#[ignore = "needs the public driver's programs (make csi-peer)"]
fn its_snapshots_and_copies_hold_what_was_there() {
    sandboxed(|dir| {
        let (cluster, peer) = equipped(dir);
        for file in peer.kinds() {
            cluster.ok(&["apply", "-f", file.to_str().expect("a plain path")]);
        }
        cluster.ok(&["wait", "--for=condition=Established", "crd", "--all"]);
        cluster.apply(&format!(
            "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshotClass\nmetadata: {{name: usual}}\ndriver: \
             {DRIVER}\ndeletionPolicy: Delete\n"
        ));
        cluster.apply(&claim("data", "late", ""));
        cluster.apply(&user("data", "data"));
        sh(&cluster, "data", "echo before > /data/note");
        cluster.apply(
            "apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshot\nmetadata: {name: first}\nspec: \
             {volumeSnapshotClassName: usual, source: {persistentVolumeClaimName: data}}\n",
        );
        let about = "{.status.readyToUse} {.status.restoreSize}{.status.error}";
        cluster.until("volumesnapshot/first", about, "true 64Mi");
        assert_eq!(peer.snapshots().len(), 1);
        assert_eq!(peer.snapshots()[0]["ReadyToUse"], true);

        // What was written since is not in it, and is in a copy of the volume.
        sh(&cluster, "data", "echo after > /data/note");
        let source = ", dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: first}";
        cluster.apply(&claim("restored", "late", source));
        cluster.apply(&user("restored", "restored"));
        assert_eq!(sh(&cluster, "restored", "cat /data/note"), "before\n");
        let source = ", dataSource: {kind: PersistentVolumeClaim, name: data}";
        cluster.apply(&claim("cloned", "late", source));
        cluster.apply(&user("cloned", "cloned"));
        assert_eq!(sh(&cluster, "cloned", "cat /data/note"), "after\n");

        let all = ["data", "restored", "cloned"];
        delete(&cluster, &[&["pod", "--grace-period=1"], &all[..]].concat());
        delete(&cluster, &["volumesnapshot", "first"]);
        delete(&cluster, &[&["pvc"], &all[..]].concat());
        assert_eq!(cluster.ok(&["get", "volumesnapshotcontents", "-o", "name"]), "");
        peer.assert_gone(&cluster);
    });
}

#[test]
#[ignore = "needs the public driver's programs (make csi-peer)"]
fn its_devices_and_its_volumes_of_pods() {
    sandboxed(|dir| {
        let (cluster, peer) = equipped(dir);
        // A device, and a copy of it.
        cluster.apply(&claim("disk", "late", ", volumeMode: Block"));
        let device = |name: &str, claim: &str| {
            format!(
                "{}\n    volumeDevices: [{{name: raw, devicePath: /dev/xvda}}]\n  volumes: [{{name: raw, \
                 persistentVolumeClaim: {{claimName: {claim}}}}}]\n",
                idle_pod(name).trim_end()
            )
        };
        cluster.apply(&device("box", "disk"));
        let size = sh(&cluster, "box", "test -b /dev/xvda && wc -c < /dev/xvda");
        assert_eq!(size.trim(), "67108864");
        sh(
            &cluster,
            "box",
            "echo written | dd of=/dev/xvda conv=notrunc,fsync",
        );
        delete(&cluster, &["pod", "box"]);
        cluster.apply(&device("again", "disk"));
        assert_eq!(sh(&cluster, "again", "head -n 1 /dev/xvda"), "written\n");
        delete(&cluster, &["pod", "again"]);
        delete(&cluster, &["pvc", "disk"]);
        peer.assert_gone(&cluster);

        // A volume that lives and dies with its pod.
        cluster.apply(&format!(
            "{}\n    volumeMounts: [{{name: scratch, mountPath: /scratch}}]\n  volumes: [{{name: scratch, csi: {{driver: \
             {DRIVER}}}}}]\n",
            idle_pod("owner").trim_end()
        ));
        sh(&cluster, "owner", "touch /scratch/file");
        let about = &peer.calls("NodePublishVolume").pop().expect("a call")["volume_context"];
        assert_eq!(about["csi.storage.k8s.io/ephemeral"], "true");
        assert_eq!(peer.volumes().len(), 1);
        delete(&cluster, &["pod", "owner"]);
        peer.assert_gone(&cluster);
    });
}
