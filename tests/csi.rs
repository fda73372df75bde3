//! Volumes of CSI drivers, by a driver that speaks as real ones do: made, attached, staged, shown, grown, counted,
//! and taken back, whoever dies in between.

use std::path::Path;

use crate::support::disks::{DRIVER, Disks, node};
use crate::support::manifests::{command_pod, idle_pod, with_claim};
use crate::support::sandbox::run;
use crate::support::{Cluster, assert_has, eventually, has, sandboxed};

fn claim(name: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{storageClassName: disks, \
         accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{more}}}\n"
    )
}

fn user(name: &str, claim: &str) -> String {
    with_claim(&idle_pod(name), claim)
}

/// A cluster with a driver.
fn equipped(dir: &Path, more: &str) -> (Cluster, Disks) {
    let cluster = Cluster::stocked(dir, &[]);
    let disks = Disks::start(dir, &cluster, more);
    (cluster, disks)
}

fn raw(cluster: &Cluster, path: &str) -> String {
    cluster.ok(&[
        "get",
        "--raw",
        &format!("/api/v1/nodes/{}/proxy/{path}", node(cluster)),
    ])
}

fn delete(cluster: &Cluster, objects: &[&str]) {
    let mut args = vec!["delete", "--timeout=60s"];
    args.extend(objects);
    cluster.ok(&args);
}

#[test]
fn a_drivers_volume_is_made_attached_shown_and_grown() {
    sandboxed(|dir| {
        let (cluster, disks) = equipped(dir, "");
        let name = node(&cluster);
        // What the driver said of the node.
        let csi_node = format!("csinode/{name}");
        cluster.until(&csi_node, "{.spec.drivers[0].nodeID}", &format!("id-of-{name}"));
        cluster.until(&csi_node, "{.spec.drivers[0].allocatable.count}", "2");
        let label = r"{.metadata.labels.topology\.disks\.example\.com/rack}";
        cluster.until(&format!("node/{name}"), label, "r1");

        cluster.apply(&claim("data", ""));
        cluster.event("data", "WaitForFirstConsumer", &["waiting for first consumer"]);
        cluster.apply(&user("box", "data"));
        cluster.event("data", "ExternalProvisioning", &[DRIVER]);
        cluster.pod_ready("box");
        cluster.event(
            "box",
            "SuccessfulAttachVolume",
            &["AttachVolume.Attach succeeded for volume \"pvc-"],
        );
        assert_has(
            &cluster.ok(&["get", "volumeattachments"]),
            &[DRIVER, "pvc-", &name, "true"],
        );
        let listed = cluster.field(&format!("node/{name}"), "{.status.volumesAttached[0].name}");
        assert_has(&listed.unwrap(), &["kubernetes.io/csi/disks.example.com^pvc-"]);
        cluster.until(
            &format!("node/{name}"),
            "{.status.volumesInUse[*]}",
            &format!(
                "kubernetes.io/csi/{DRIVER}^{}",
                cluster.field("pvc/data", "{.spec.volumeName}").unwrap()
            ),
        );
        // The driver was told what attaching gave, what it said of the volume, and whose pod it is.
        assert_eq!(
            disks
                .calls(&["NodeStageVolume", r#""slot": "7""#, r#""colour": "blue""#])
                .len(),
            1
        );
        let pod = r#"("csi.storage.k8s.io/pod.name", "box")"#;
        assert_eq!(
            disks
                .calls(&["NodePublishVolume", pod, r#"ephemeral", "false""#])
                .len(),
            1
        );

        // Two pods of either sort share what is staged once.
        cluster
            .exec("box", &["sh", "-c", "echo from oci > /data/note"])
            .unwrap();
        let guest = command_pod("guest", "local/hello-cli:1", &["--read", "/data/note"]);
        cluster.apply(&with_claim(&guest, "data"));
        assert_eq!(cluster.finished("guest"), "Succeeded");
        assert_has(&cluster.ok(&["logs", "guest"]), &["file /data/note: from oci"]);
        delete(&cluster, &["pod", "guest"]);
        assert_eq!(disks.calls(&["NodeStageVolume"]).len(), 1);
        assert!(disks.calls(&["NodeUnstageVolume"]).is_empty());

        // It grows while it is used.
        let more = r#"{"spec":{"resources":{"requests":{"storage":"3Gi"}}}}"#;
        cluster.ok(&["patch", "pvc", "data", "-p", more]);
        cluster.until(
            "pvc/data",
            "{.status.capacity.storage}{.status.conditions}",
            "3Gi",
        );
        cluster.event(
            "data",
            "FileSystemResizeSuccessful",
            &["MountVolume.NodeExpandVolume succeeded"],
        );
        assert_eq!(disks.calls(&["NodeExpandVolume", "3221225472"]).len(), 1);
        // It says how full it is.
        let summary: serde_json::Value = serde_json::from_str(&raw(&cluster, "stats/summary")).unwrap();
        let pods = summary["pods"].as_array().expect("pods");
        let mut volumes = pods
            .iter()
            .flat_map(|pod| pod["volume"].as_array().into_iter().flatten());
        let volume = volumes
            .find(|volume| volume["pvcRef"]["name"] == "data")
            .expect("the claim");
        assert_eq!(
            (&volume["capacityBytes"], &volume["usedBytes"]),
            (&3_221_225_472_i64.into(), &9.into())
        );
        let line = r#"kubelet_volume_stats_used_bytes{namespace="default",persistentvolumeclaim="data"} 9"#;
        assert_has(&raw(&cluster, "metrics"), &[line]);

        delete(&cluster, &["pod", "box"]);
        delete(&cluster, &["pvc", "data"]);
        disks.assert_gone(&cluster);
        assert_eq!(disks.calls(&["NodeUnstageVolume"]).len(), 1);
        cluster.until(
            &format!("node/{name}"),
            "{.status.volumesAttached}{.status.volumesInUse}",
            "",
        );
    });
}

#[test]
fn a_pod_brings_a_volume_of_a_driver() {
    sandboxed(|dir| {
        let (cluster, disks) = equipped(dir, ", attachRequired: false, tokenRequests: [{audience: vault}]");
        cluster.ok(&["create", "secret", "generic", "key", "--from-literal=door=open"]);
        let own = "\n    volumeMounts: [{name: scratch, mountPath: /scratch}]\n  volumes: [{name: scratch, csi: {driver: \
             disks.example.com, volumeAttributes: {size: small}, nodePublishSecretRef: {name: key}}}]\n";
        cluster.apply(&format!("{}{own}", idle_pod("box").trim_end()));
        cluster.pod_ready("box");
        cluster.exec("box", &["touch", "/scratch/file"]).unwrap();
        let told = disks.calls(&[
            "NodePublishVolume csi-",
            r#"("size", "small")"#,
            r#"ephemeral", "true""#,
        ]);
        assert_has(
            &told.concat(),
            &[
                r#"serviceAccount.tokens", "{\"vault\":{\"#,
                "expirationTimestamp",
                r#""door": "open""#,
            ],
        );
        assert_eq!(disks.volumes().len(), 1);
        assert!(disks.calls(&["NodeStageVolume"]).is_empty());
        delete(&cluster, &["pod", "box"]);
        disks.assert_gone(&cluster);

        // A driver that nobody has registered, and one that has no such volumes, are named.
        let other = own.replace(DRIVER, "nobody.example.com");
        cluster.apply(&format!("{}{other}", idle_pod("lost").trim_end()));
        let text = "driver name nobody.example.com not found in the list of registered CSI drivers";
        cluster.event("lost", "FailedMount", &[text]);
        delete(&cluster, &["pod", "lost"]);
    });
}

#[test]
fn a_volume_survives_its_driver_and_the_agent() {
    sandboxed(|dir| {
        let (mut cluster, mut disks) = equipped(dir, "");
        cluster.apply(&claim("data", ""));
        cluster.apply(&user("box", "data"));
        cluster.pod_ready("box");
        cluster
            .exec("box", &["sh", "-c", "echo kept > /data/note"])
            .unwrap();

        // The driver dies: what is shown stays. Without it nothing new is shown, with it everything.
        disks.kill();
        assert_eq!(cluster.exec("box", &["cat", "/data/note"]).unwrap(), "kept\n");
        cluster.apply(&user("later", "data"));
        cluster.event("later", "FailedMount", &["rpc error: code = Unavailable"]);
        disks.begin(&cluster);
        cluster.pod_ready("later");
        assert_eq!(cluster.exec("later", &["cat", "/data/note"]).unwrap(), "kept\n");
        delete(&cluster, &["pod", "later"]);

        // The agent dies: the pod goes on, and what it was shown is taken back by the next one.
        cluster.kill();
        cluster.restart();
        cluster.ready();
        assert_eq!(cluster.exec("box", &["cat", "/data/note"]).unwrap(), "kept\n");
        delete(&cluster, &["pod", "box"]);

        // It dies while a volume is being staged, and the pod is gone when it is back.
        disks.slow(true);
        let staged = disks.calls(&["NodeStageVolume"]).len();
        cluster.apply(&user("early", "data"));
        eventually("staging has begun", || {
            match disks.calls(&["NodeStageVolume"]).len() > staged {
                true => Ok(()),
                false => Err("not yet".to_owned()),
            }
        });
        cluster.kill();
        disks.slow(false);
        cluster.restart();
        cluster.ready();
        cluster.ok(&["delete", "pod", "early", "--force", "--grace-period=0"]);
        delete(&cluster, &["pvc", "data"]);
        disks.assert_gone(&cluster);
        has(&disks.calls(&["NodeUnstageVolume"]).concat(), &["pvc-"]).unwrap();
    });
}

#[test]
fn nodes_have_no_more_volumes_than_their_driver_can_attach() {
    sandboxed(|dir| {
        let (cluster, disks) = equipped(dir, ", storageCapacity: true");
        let told = |pod: &str, why: &str| {
            cluster.event(
                pod,
                "FailedScheduling",
                &[&format!("0/1 nodes are available: 1 {why}.")],
            );
        };
        // A driver that counts its room has none before it says so.
        cluster.apply(&claim("a", ""));
        cluster.apply(&user("a", "a"));
        told("a", "node(s) did not have enough free storage");
        cluster.apply(
            "apiVersion: storage.k8s.io/v1\nkind: CSIStorageCapacity\nmetadata: {name: room}\nstorageClassName: disks\n\
             capacity: 10Gi\nnodeTopology: {matchLabels: {topology.disks.example.com/rack: r1}}\n",
        );
        cluster.pod_ready("a");
        for name in ["b", "c"] {
            cluster.apply(&claim(name, ""));
            cluster.apply(&user(name, name));
            if name == "b" {
                cluster.pod_ready(name);
            }
        }
        told("c", "node(s) exceed max volume count");
        delete(&cluster, &["pod", "a", "b", "--force", "--grace-period=0"]);
        cluster.pod_ready("c");
        delete(&cluster, &["pod", "c"]);
        delete(&cluster, &["pvc", "a", "b", "c"]);
        disks.assert_gone(&cluster);
    });
}

#[test]
fn a_driver_that_runs_in_a_pod_shows_its_volumes_to_others() {
    sandboxed(|dir| {
        // As it is on machines that systemd began.
        let shown = dir.display().to_string();
        run("mount", &["--bind", &shown, &shown]);
        run("mount", &["--make-shared", &shown]);
        let mut cluster = Cluster::stocked(dir, &[]);
        let disks = Disks::start_in_pod(dir, &cluster);
        cluster.apply(&claim("data", ""));
        cluster.apply(&user("box", "data"));
        cluster.pod_ready("box");
        cluster
            .exec("box", &["sh", "-c", "echo theirs > /data/note"])
            .unwrap();
        let volumes = disks.volumes();
        let [volume] = volumes.as_slice() else {
            panic!("{volumes:?}");
        };
        assert_eq!(std::fs::read_to_string(volume.join("note")).unwrap(), "theirs\n");
        // The next driver finds what the one before has staged, and takes it back.
        delete(&cluster, &["pod", "driver"]);
        assert_eq!(cluster.exec("box", &["cat", "/data/note"]).unwrap(), "theirs\n");
        let disks = Disks::start_in_pod(dir, &cluster);
        delete(&cluster, &["pod", "box"]);
        delete(&cluster, &["pvc", "data"]);
        disks.assert_gone(&cluster);
        delete(&cluster, &["pod", "driver"]);
        cluster.stop();
        run("umount", &["--lazy", &shown]);
    });
}
