//! The CSI driver of `programs/disks.rs`, and the objects that go with it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::manifests::BUSYBOX;
use super::running::Running;
use super::{Cluster, eventually, tools};

/// The driver's name, and its class's.
pub const DRIVER: &str = "disks.example.com";

/// A driver on the cluster's own machine; it ends with this value.
pub struct Disks {
    running: Option<Running>,
    folder: PathBuf,
}

impl Disks {
    /// Starts one and waits until the node knows it; with the class `disks` and a CSIDriver that says `more`.
    pub fn start(dir: &Path, cluster: &Cluster, more: &str) -> Self {
        let mut disks = Self::announced(dir, cluster, more);
        disks.begin(cluster);
        known(cluster);
        disks
    }

    /// Runs one in the pod `driver`, as clusters usually do. The data folder must be on a shared mount.
    pub fn start_in_pod(dir: &Path, cluster: &Cluster) -> Self {
        let disks = Self::announced(dir, cluster, "");
        let program = tools::example("disks");
        let programs = program.parent().expect("a folder").display();
        let (data, folder) = (cluster.dir.display(), disks.folder.display());
        cluster.apply(&format!(
            r#"
apiVersion: v1
kind: Pod
metadata: {{name: driver}}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 1
  containers:
  - name: driver
    image: {BUSYBOX}
    command: [/programs/disks, {folder}, {data}, {node}, {data}/admin.kubeconfig]
    securityContext: {{privileged: true}}
    volumeMounts:
    - {{name: data, mountPath: {data}, mountPropagation: Bidirectional}}
    - {{name: folder, mountPath: {folder}}}
    - {{name: programs, mountPath: /programs, readOnly: true}}
    - {{name: lib, mountPath: /lib, readOnly: true}}
    - {{name: lib64, mountPath: /lib64, readOnly: true}}
  volumes:
  - {{name: data, hostPath: {{path: {data}}}}}
  - {{name: folder, hostPath: {{path: {folder}}}}}
  - {{name: programs, hostPath: {{path: {programs}}}}}
  - {{name: lib, hostPath: {{path: /lib}}}}
  - {{name: lib64, hostPath: {{path: /lib64}}}}
"#,
            node = node(cluster),
        ));
        cluster.pod_ready("driver");
        known(cluster);
        disks
    }

    /// The objects that go with a driver, which does not run yet.
    fn announced(dir: &Path, cluster: &Cluster, more: &str) -> Self {
        let folder = dir.join("disks");
        std::fs::create_dir_all(&folder).expect("a folder");
        cluster.apply(&format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {{name: {DRIVER}}}\nspec: {{podInfoOnMount: true, \
             fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]{more}}}\n---\n\
             apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: disks}}\nprovisioner: {DRIVER}\n\
             volumeBindingMode: WaitForFirstConsumer\nallowVolumeExpansion: true\n"
        ));
        Self {
            running: None,
            folder,
        }
    }

    /// Starts the driver's process, again if it was killed.
    pub fn begin(&mut self, cluster: &Cluster) {
        let data = &cluster.dir;
        let child = Command::new(tools::example("disks"))
            .arg(&self.folder)
            .arg(data)
            .arg(node(cluster))
            .arg(data.join("admin.kubeconfig"))
            .stdin(Stdio::null())
            .spawn();
        self.running = Some(Running(child.expect("the driver")));
    }

    /// Kills the driver's process; its sockets stay behind.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Keeps staging from ending, or lets it.
    pub fn slow(&self, slow: bool) {
        let file = self.folder.join("slow");
        if slow {
            std::fs::write(file, "").expect("a file");
        } else {
            std::fs::remove_file(file).expect("the file");
        }
    }

    /// Keeps snapshots from being made, or lets them.
    pub fn full(&self, full: bool) {
        let file = self.folder.join("full");
        if full {
            std::fs::write(file, "").expect("a file");
        } else {
            std::fs::remove_file(file).expect("the file");
        }
    }

    /// Every call so far that has these words, in their order.
    pub fn calls(&self, words: &[&str]) -> Vec<String> {
        let all = std::fs::read_to_string(self.folder.join("calls")).unwrap_or_default();
        let fits = |line: &&str| words.iter().all(|word| line.contains(word));
        all.lines().filter(fits).map(str::to_owned).collect()
    }

    /// The volumes that the driver has.
    pub fn volumes(&self) -> Vec<PathBuf> {
        self.folders("volumes")
    }

    /// The snapshots that it has.
    pub fn snapshots(&self) -> Vec<PathBuf> {
        self.folders("snapshots")
    }

    fn folders(&self, of: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.join(of))
            .into_iter()
            .flatten()
            .flatten();
        entries
            .map(|entry| entry.path())
            .filter(|path| path.is_dir())
            .collect()
    }

    /// Waits until nothing of any volume is left: neither mounts nor records, attachments nor the driver's folders.
    pub fn assert_gone(&self, cluster: &Cluster) {
        eventually("no volume is left", || {
            let objects = cluster.try_ok(&[
                "get",
                "pv,volumeattachments",
                "--no-headers",
                "--ignore-not-found",
            ])?;
            let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let shown: Vec<&str> = mounts
                .lines()
                .filter(|line| line.contains("/disks/volumes/"))
                .collect();
            let stages = cluster.dir.join("plugins/kubernetes.io/csi").join(DRIVER);
            let staged = std::fs::read_dir(stages).map_or(0, Iterator::count);
            if objects.is_empty() && shown.is_empty() && staged == 0 && self.volumes().is_empty() {
                return Ok(());
            }
            Err(format!(
                "{objects} {shown:?} {staged} staged {:?}",
                self.volumes()
            ))
        });
    }
}

/// Waits until the node knows the driver.
fn known(cluster: &Cluster) {
    let object = format!("csinode/{}", node(cluster));
    cluster.until(&object, "{.spec.drivers[*].name}", DRIVER);
}

/// The cluster's only node.
pub fn node(cluster: &Cluster) -> String {
    cluster.ok(&["get", "nodes", "-o", "jsonpath={.items[0].metadata.name}"])
}
