//! Volumes that are devices (`volumeMode: Block`): files of the built-in provisioner that loop devices stand for,
//! devices of the machine, and those of a CSI driver.

use std::path::Path;

use crate::support::disks::Disks;
use crate::support::manifests::{BUSYBOX, IDLE, idle_pod, with_claim};
use crate::support::{Cluster, assert_has, eventually, sandboxed};

fn claim(name: &str, class: &str, mode: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}}}\nspec: {{storageClassName: {class}, \
         volumeMode: {mode}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 4Mi}}}}}}\n"
    )
}

/// An idle pod that has a claim's device at a path.
fn user(name: &str, claim: &str, path: &str) -> String {
    format!(
        "{}\n    volumeDevices: [{{name: raw, devicePath: {path}}}]\n  volumes: [{{name: raw, persistentVolumeClaim: \
         {{claimName: {claim}}}}}]\n",
        idle_pod(name).trim_end()
    )
}

/// The loop devices that stand for files below a folder.
fn devices_of(folder: &Path) -> Vec<String> {
    let all = std::fs::read_dir("/sys/block").expect("devices").flatten();
    let files =
        all.filter_map(|device| std::fs::read_to_string(device.path().join("loop/backing_file")).ok());
    let below = folder.display().to_string();
    files.filter(|file| file.starts_with(&below)).collect()
}

fn sh(cluster: &Cluster, pod: &str, script: &str) -> Result<String, String> {
    cluster.exec(pod, &["sh", "-c", script])
}

#[test]
fn a_claim_is_a_device_that_outlives_its_pods() {
    sandboxed(|dir| {
        let mut cluster = Cluster::stocked(dir, &[]);
        let folder = cluster.dir.join("local-path");
        cluster.apply(&claim("disk", "local-path", "Block"));
        cluster.apply(&user("first", "disk", "/dev/xvda"));
        cluster.pod_ready("first");
        assert_eq!(
            sh(&cluster, "first", "test -b /dev/xvda && wc -c < /dev/xvda")
                .unwrap()
                .trim(),
            "4194304"
        );
        sh(
            &cluster,
            "first",
            "echo written | dd of=/dev/xvda conv=notrunc,fsync",
        )
        .unwrap();
        // It has the right to this device and to no other.
        let stranger = "mknod /dev/other b 7 200 && head -c 1 /dev/other";
        assert_has(&sh(&cluster, "first", stranger).unwrap_err(), &["not permitted"]);

        // The agent goes, and a container begins again: it is the same device.
        cluster.stop();
        cluster.restart();
        cluster.ready();
        sh(&cluster, "first", "kill 1").unwrap();
        cluster.until("pod/first", "{.status.containerStatuses[0].restartCount}", "1");
        cluster.pod_ready("first");
        assert_eq!(sh(&cluster, "first", "head -n 1 /dev/xvda").unwrap(), "written\n");
        assert_eq!(devices_of(&folder).len(), 1);

        // Two pods have one device; it is freed with the last, and what is on it stays.
        cluster.apply(&user("second", "disk", "/disks/raw"));
        cluster.pod_ready("second");
        assert_eq!(
            sh(&cluster, "second", "test -b /disks/raw && head -n 1 /disks/raw").unwrap(),
            "written\n"
        );
        assert_eq!(devices_of(&folder).len(), 1);
        cluster.ok(&["delete", "pod", "first", "--timeout=60s"]);
        assert_eq!(
            sh(&cluster, "second", "head -n 1 /disks/raw").unwrap(),
            "written\n"
        );
        cluster.ok(&["delete", "pod", "second", "--timeout=60s"]);
        assert_eq!(devices_of(&folder), Vec::<String>::new());

        cluster.ok(&["delete", "pvc", "disk", "--timeout=60s"]);
        eventually("the file goes with its claim", || {
            match std::fs::read_dir(&folder).expect("a folder").count() {
                0 => Ok(()),
                left => Err(format!("{left} files are left")),
            }
        });
    });
}

#[test]
fn volumes_are_used_as_what_they_are() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        cluster.apply(&claim("disk", "local-path", "Block"));
        cluster.apply(&claim("files", "local-path", "Filesystem"));
        cluster.apply(&with_claim(&idle_pod("mounting"), "disk"));
        let text = "volume data has volumeMode Block, but is specified in volumeMounts";
        cluster.event("mounting", "FailedMount", &[text]);
        cluster.apply(&user("opening", "files", "/dev/xvda"));
        let text = "volume raw has volumeMode Filesystem, but is specified in volumeDevices";
        cluster.event("opening", "FailedMount", &[text]);

        // A volume of the machine's own must be a device.
        let name = cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"]);
        let local = |volume: &str, path: &Path| {
            format!(
                "apiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {volume}}}\nspec:\n  volumeMode: Block\n  \
                 storageClassName: {volume}\n  capacity: {{storage: 4Mi}}\n  accessModes: [ReadWriteOnce]\n  \
                 persistentVolumeReclaimPolicy: Retain\n  local: {{path: {}}}\n  nodeAffinity: {{required: \
                 {{nodeSelectorTerms: [{{matchExpressions: [{{key: kubernetes.io/hostname, operator: In, values: \
                 [{name}]}}]}}]}}}}\n---\n{}",
                path.display(),
                claim(volume, volume, "Block")
            )
        };
        let file = dir.join("file");
        std::fs::write(&file, "").unwrap();
        cluster.apply(&local("fake", &file));
        cluster.apply(&user("fake", "fake", "/dev/xvda"));
        cluster.event("fake", "FailedMount", &["is not a block device"]);
        std::fs::write(dir.join("image"), vec![b'x'; 1 << 20]).unwrap();
        let device = sys::loop_device::attach(&dir.join("image")).unwrap();
        cluster.apply(&local("real", &device));
        cluster.apply(&user("real", "real", "/dev/xvda"));
        cluster.pod_ready("real");
        assert_eq!(sh(&cluster, "real", "head -c 3 /dev/xvda").unwrap(), "xxx");
        cluster.ok(&["delete", "pod", "real", "--timeout=60s"]);
        // The machine's own device stays.
        assert_eq!(devices_of(&dir.join("image")).len(), 1);

        // A guest opens no devices.
        cluster.apply(&format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: guest}}\nspec:\n  containers:\n  - {{name: plain, image: \
             \"{BUSYBOX}\", command: [sh, -c, {IDLE:?}]}}\n  - {{name: main, image: local/hello-http:1, volumeDevices: \
             [{{name: raw, devicePath: /dev/x}}]}}\n  volumes: [{{name: raw, persistentVolumeClaim: {{claimName: real}}}}]\n"
        ));
        cluster.event(
            "guest",
            "Failed",
            &["is WebAssembly, which has no such thing as: volumeDevices"],
        );
        cluster.ok(&["delete", "pods", "--all", "--timeout=60s"]);
        sys::loop_device::detach(&dir.join("image")).unwrap();
    });
}

#[test]
fn a_driver_shows_a_device() {
    sandboxed(|dir| {
        let cluster = Cluster::stocked(dir, &[]);
        let disks = Disks::start(dir, &cluster, "");
        cluster.apply(&claim("disk", "disks", "Block"));
        cluster.apply(&user("box", "disk", "/dev/xvda"));
        cluster.pod_ready("box");
        let size = sh(&cluster, "box", "test -b /dev/xvda && wc -c < /dev/xvda");
        assert_eq!(size.unwrap().trim(), "4194304");
        sh(
            &cluster,
            "box",
            "echo written | dd of=/dev/xvda conv=notrunc,fsync",
        )
        .unwrap();
        cluster.ok(&["delete", "pod", "box", "--timeout=60s"]);
        assert_eq!(devices_of(dir), Vec::<String>::new());
        cluster.apply(&user("again", "disk", "/dev/xvda"));
        cluster.pod_ready("again");
        assert_eq!(sh(&cluster, "again", "head -n 1 /dev/xvda").unwrap(), "written\n");
        cluster.ok(&["delete", "pod", "again", "--timeout=60s"]);
        cluster.ok(&["delete", "pvc", "disk", "--timeout=60s"]);
        drop(disks);
    });
}
