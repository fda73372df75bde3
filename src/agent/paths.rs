//! Where the agent keeps things below the data folder.
//!
//! ```text
//! pods/UID/pod.json                     the pod as last seen, with its last status
//! pods/UID/users.json                   which users of the machine the pod has for itself
//! pods/UID/volumes/KIND/NAME/           volumes
//! memory/UID/KIND/NAME/                 volumes that may hold secrets: a file system in memory
//! pods/UID/logs/CONTAINER/ATTEMPT.log   CRI logs; rotated ones end in .1, .2 …
//! pods/UID/etc/{hosts,hostname,resolv.conf}
//! pods/UID/ends/CONTAINER.ATTEMPT/      termination messages
//! objects/NAMESPACE/KIND.NAME.json      ConfigMaps and Secrets that pods here use
//! device-plugins/                       sockets of device plugins, and the node's for them
//! pod-resources/                        the socket to ask which pod has which
//! devices.json                          which containers have which devices
//! seccomp/FILE                          seccomp profiles that pods name (`Localhost`)
//! node.json                             the Node as last seen
//! plugins_registry/X.sock                drivers and other plugins introduce themselves here
//! plugins/                               their own sockets, and what CSI drivers stage
//! local-path/PV_NAMESPACE_CLAIM/         volumes of the built-in provisioner
//! kept/KIND.json                        Services and the like as last seen
//! ```

use std::path::{Path, PathBuf};

/// The agent's folders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Paths {
    data: PathBuf,
}

impl Paths {
    /// Folders below `data`.
    pub fn new(data: &Path) -> Paths {
        Paths {
            data: data.to_owned(),
        }
    }

    /// The data folder itself.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// All pods' folders.
    pub fn pods(&self) -> PathBuf {
        self.data.join("pods")
    }

    /// A pod's folder. UIDs come from the API server, so only a plain name is taken as one.
    pub fn pod(&self, uid: &str) -> PathBuf {
        let plain = !uid.is_empty()
            && uid
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        self.pods().join(if plain { uid } else { "invalid" })
    }

    /// The pod as last seen.
    pub fn checkpoint(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("pod.json")
    }

    /// Which users the pod has for itself.
    pub fn users(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("users.json")
    }

    /// A volume's folder; volume names are DNS labels. What may hold secrets is kept in memory.
    pub fn volume(&self, uid: &str, kind: &str, name: &str) -> PathBuf {
        let root = match kind {
            // Not projections: their tokens must be there after a reboot without a server.
            "secret" | "downward-api" => self.memory_of(uid),
            _ => self.pod(uid).join("volumes"),
        };
        root.join(kind).join(name)
    }

    /// Where a memory file system holds volumes of all pods.
    pub fn memory(&self) -> PathBuf {
        self.data.join("memory")
    }

    /// The part of it that is a pod's.
    pub fn memory_of(&self, uid: &str) -> PathBuf {
        let folder = self.pod(uid);
        self.memory().join(folder.file_name().unwrap_or_default())
    }

    /// A container's log.
    pub fn log(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.logs(uid, container).join(format!("{attempt}.log"))
    }

    /// A container's logs.
    pub fn logs(&self, uid: &str, container: &str) -> PathBuf {
        self.pod(uid).join("logs").join(container)
    }

    /// The folder of `hosts`, `hostname` and `resolv.conf`.
    pub fn etc(&self, uid: &str) -> PathBuf {
        self.pod(uid).join("etc")
    }

    /// The folder that holds one termination message file.
    pub fn end(&self, uid: &str, container: &str, attempt: u32) -> PathBuf {
        self.pod(uid).join("ends").join(format!("{container}.{attempt}"))
    }

    /// All kept ConfigMaps and Secrets.
    pub fn objects(&self) -> PathBuf {
        self.data.join("objects")
    }

    /// All objects of a kind as last seen.
    pub fn kept(&self, plural: &str) -> PathBuf {
        self.data.join("kept").join(format!("{plural}.json"))
    }

    /// Sockets of device plugins, and the node's for them.
    pub fn device_plugins(&self) -> PathBuf {
        self.data.join("device-plugins")
    }

    /// The socket on which programs of this machine ask which pod has which devices.
    pub fn pod_resources(&self) -> PathBuf {
        self.data.join("pod-resources")
    }

    /// Which containers have which devices.
    pub fn devices(&self) -> PathBuf {
        self.data.join("devices.json")
    }

    /// Seccomp profiles that pods name.
    pub fn seccomp(&self) -> PathBuf {
        self.data.join("seccomp")
    }

    /// Which containers have processors for themselves.
    pub fn cpus(&self) -> PathBuf {
        self.data().join("cpus.json")
    }

    /// Descriptions of devices that plugins name.
    pub fn cdi(&self) -> PathBuf {
        self.data().join("cdi")
    }

    /// Where plugins put the sockets by which they introduce themselves.
    pub fn plugins_registry(&self) -> PathBuf {
        self.absolute("plugins_registry")
    }

    /// Where plugins have their own sockets, and CSI drivers stage volumes.
    pub fn plugins(&self) -> PathBuf {
        self.absolute("plugins")
    }

    /// Below which CSI drivers show volumes; what a driver is told must be absolute.
    pub fn csi_pods(&self) -> PathBuf {
        self.absolute("pods")
    }

    /// The volumes of CSI drivers that a pod is shown.
    pub fn csi_volumes(&self, uid: &str) -> PathBuf {
        let name = self.pod(uid);
        let pods = self.csi_pods();
        pods.join(name.file_name().unwrap_or_default())
            .join("volumes/kubernetes.io~csi")
    }

    /// Where volumes of the built-in provisioner lie: an absolute path, since others name it.
    pub fn local_path(&self) -> PathBuf {
        self.absolute("local-path")
    }

    fn absolute(&self, name: &str) -> PathBuf {
        let path = self.data.join(name);
        std::path::absolute(&path).unwrap_or(path)
    }

    /// Where sockets are to be had that an earlier agent's guests have left.
    pub fn handover(&self) -> PathBuf {
        self.data().join("handover.sock")
    }

    /// The Node as last seen.
    pub fn node(&self) -> PathBuf {
        self.data.join("node.json")
    }
}
