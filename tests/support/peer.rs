//! The public CSI driver `csi-driver-host-path` and its helpers, as their authors release them.
//!
//! They come in a folder that `CORACLE_CSI_PEER` names, under the names of [`PROGRAMS`].

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::disks::node;
use super::running::Running;
use super::{Cluster, eventually};

/// The driver's name.
pub const DRIVER: &str = "hostpath.csi.k8s.io";

/// The driver, what introduces it to the node, and what speaks for it to the cluster.
pub const PROGRAMS: [&str; 6] = [
    "hostpathplugin",
    "csi-node-driver-registrar",
    "csi-provisioner",
    "csi-attacher",
    "csi-resizer",
    "csi-snapshotter",
];

/// All of them on the cluster's own machine; they end with this value.
pub struct Peer {
    running: BTreeMap<&'static str, Running>,
    programs: PathBuf,
    folder: PathBuf,
    data: PathBuf,
    node: String,
}

impl Peer {
    /// Starts them with the classes `late` (a volume waits for its first pod) and `early`, and waits until the node
    /// knows the driver.
    pub fn start(dir: &Path, cluster: &Cluster) -> Self {
        let programs = std::env::var_os("CORACLE_CSI_PEER").expect("CORACLE_CSI_PEER names a folder");
        let node = node(cluster);
        let mut peer = Self {
            running: BTreeMap::new(),
            programs: PathBuf::from(programs),
            folder: dir.join("peer"),
            data: cluster.dir.clone(),
            node: node.clone(),
        };
        fs::create_dir_all(&peer.folder).expect("a folder");
        fs::create_dir_all(peer.socket().parent().expect("a folder")).expect("a folder");
        let class = |name: &str, binding: &str| {
            format!(
                "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {name}}}\nprovisioner: {DRIVER}\n\
                 volumeBindingMode: {binding}\nallowVolumeExpansion: true\n"
            )
        };
        cluster.apply(&format!(
            "apiVersion: storage.k8s.io/v1\nkind: CSIDriver\nmetadata: {{name: {DRIVER}}}\nspec: {{podInfoOnMount: true, \
             fsGroupPolicy: File, volumeLifecycleModes: [Persistent, Ephemeral]}}\n{}{}",
            class("late", "WaitForFirstConsumer"),
            class("early", "Immediate"),
        ));
        for name in PROGRAMS {
            peer.begin(name);
        }
        cluster.until(&format!("csinode/{node}"), "{.spec.drivers[*].name}", DRIVER);
        peer
    }

    /// The files of kinds that lie beside the programs.
    pub fn kinds(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(&self.programs).expect("a folder").flatten();
        let files = entries.map(|entry| entry.path());
        files
            .filter(|file| file.extension().is_some_and(|end| end == "yaml"))
            .collect()
    }

    fn socket(&self) -> PathBuf {
        self.data.join("plugins/csi-hostpath/csi.sock")
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(name).with_extension("log")
    }

    /// Starts one of the programs, again if it was killed.
    pub fn begin(&mut self, name: &'static str) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log(name));
        let child = Command::new(self.programs.join(name))
            .args(self.arguments(name))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.expect("a log"))
            .spawn();
        let child = child.unwrap_or_else(|error| panic!("{name}: {error}"));
        self.running.insert(name, Running(child));
    }

    /// Kills one of them; its sockets stay behind.
    pub fn kill(&mut self, name: &str) {
        self.running.remove(name);
    }

    fn arguments(&self, name: &str) -> Vec<String> {
        let (socket, data) = (self.socket(), self.data.display());
        let socket = socket.display();
        let mut given = match name {
            "hostpathplugin" => vec![
                format!("--endpoint=unix://{socket}"),
                format!("--nodeid={}", self.node),
                format!("--statedir={}", self.folder.display()),
                "--enable-attach".to_owned(),
            ],
            "csi-node-driver-registrar" => vec![
                format!("--csi-address={socket}"),
                format!("--kubelet-registration-path={socket}"),
                format!("--plugin-registration-path={data}/plugins_registry"),
            ],
            _ => vec![
                format!("--csi-address={socket}"),
                format!("--kubeconfig={data}/admin.kubeconfig"),
            ],
        };
        match name {
            "csi-provisioner" => given.push("--feature-gates=Topology=true".to_owned()),
            "csi-resizer" => given.push("--retry-interval-start=200ms".to_owned()),
            _ => {}
        }
        given.push("--v=5".to_owned());
        given
    }

    /// The driver's own record of its volumes, or of its snapshots.
    fn records(&self, of: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.join("state.json")).unwrap_or_default();
        let all: Value = serde_json::from_str(&text).unwrap_or_default();
        all[of].as_array().cloned().unwrap_or_default()
    }

    /// What the driver was asked of that sort, and did.
    pub fn calls(&self, method: &str) -> Vec<Value> {
        let log = fs::read_to_string(self.log(PROGRAMS[0])).unwrap_or_default();
        let lines = log.lines().filter_map(|line| line.split_once("gRPCCall: "));
        let all = lines.filter_map(|(_, call)| serde_json::from_str::<Value>(call).ok());
        let is_it = |call: &Value| {
            let name = call["Method"].as_str().unwrap_or_default();
            name.rsplit('/').next() == Some(method) && call["Error"] == ""
        };
        all.filter(is_it).map(|call| call["Request"].clone()).collect()
    }

    /// How often it did that.
    pub fn count(&self, method: &str) -> usize {
        self.calls(method).len()
    }

    /// The volumes that the driver has.
    pub fn volumes(&self) -> Vec<Value> {
        self.records("Volumes")
    }

    /// The snapshots that it has.
    pub fn snapshots(&self) -> Vec<Value> {
        self.records("Snapshots")
    }

    /// Waits until nothing of any volume is left, neither in the cluster nor at the driver's nor on the machine.
    pub fn assert_gone(&self, cluster: &Cluster) {
        eventually("no volume is left", || {
            let args = [
                "get",
                "pv,volumeattachments",
                "--no-headers",
                "--ignore-not-found",
            ];
            let objects = cluster.try_ok(&args)?;
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            let shown: Vec<&str> = mounts.lines().filter(|line| line.contains("/csi/")).collect();
            let stages = self.data.join("plugins/kubernetes.io/csi").join(DRIVER);
            let staged = fs::read_dir(stages).map_or(0, Iterator::count);
            let (volumes, snapshots) = (self.volumes(), self.snapshots());
            match objects.is_empty()
                && shown.is_empty()
                && staged == 0
                && volumes.is_empty()
                && snapshots.is_empty()
            {
                true => Ok(()),
                false => Err(format!(
                    "{objects} {shown:?} {staged} staged {volumes:?} {snapshots:?}"
                )),
            }
        });
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for name in PROGRAMS {
            let log = fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            let last = &lines[lines.len().saturating_sub(40)..];
            eprintln!("--- the last that {name} said\n{}", last.join("\n"));
        }
    }
}
