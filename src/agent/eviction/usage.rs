//! What a pod uses of memory, disk and process ids.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Pod;

use crate::paths::Paths;
use crate::pods::spec;
use crate::pods::table::PodView;
use crate::runtime::Runtimes;

/// Space on a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Files and folders.
    pub inodes: u64,
}

impl std::ops::AddAssign for Space {
    fn add_assign(&mut self, other: Space) {
        self.bytes += other.bytes;
        self.inodes += other.inodes;
    }
}

/// What one container uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContainerUse {
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Processes and threads.
    pub pids: u64,
    /// Its logs and what it wrote into its root file system.
    pub disk: Space,
}

/// What one pod uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodUse {
    /// By container.
    pub containers: BTreeMap<String, ContainerUse>,
    /// Its emptyDir volumes, by name; those in memory too.
    pub empty_dirs: BTreeMap<String, Space>,
    /// The part of them that lies on the disk.
    pub disk_volumes: Space,
}

impl PodUse {
    /// All of its space on the disk.
    pub fn disk(&self) -> Space {
        let mut all = self.disk_volumes;
        self.containers.values().for_each(|used| all += used.disk);
        all
    }
}

/// What a pod has on the disk. Blocks.
pub fn on_disk(pod: &Pod, view: &PodView, paths: &Paths) -> PodUse {
    let uid = spec::uid(pod);
    let mut used = PodUse::default();
    for volume in spec::spec(pod).volumes.iter().flatten() {
        let Some(empty) = &volume.empty_dir else { continue };
        let space = space(&paths.volume(uid, "empty-dir", &volume.name));
        if empty.medium.as_deref().unwrap_or_default().is_empty() {
            used.disk_volumes += space;
        }
        used.empty_dirs.insert(volume.name.clone(), space);
    }
    for (name, container) in &view.containers {
        let mut disk = space(&paths.logs(uid, name));
        let id = container
            .container_id
            .as_deref()
            .and_then(|id| id.split_once("://"));
        if let Some((_, id)) = id {
            disk += space(&paths.data().join("containers").join(uid).join(id).join("upper"));
        }
        let used = used.containers.entry(name.clone()).or_default();
        used.disk = disk;
    }
    used
}

/// Adds what the pod's running containers use of memory and process ids.
pub async fn add_running(runtimes: &Runtimes, view: &PodView, used: &mut PodUse) {
    for (name, container) in &view.containers {
        let found = container.container_id.as_deref();
        let Some((runtime, id)) = found.and_then(|id| runtimes.of_container(id)) else {
            continue;
        };
        // One that has just ended uses nothing.
        if let Ok(now) = runtime.usage(id).await {
            let used = used.containers.entry(name.clone()).or_default();
            (used.memory_bytes, used.pids) = (now.memory_bytes, now.pids);
        }
    }
}

/// What lies below a folder, itself included; links are not followed, and a
/// file with several names counts once. Other file systems mounted below count,
/// too: there are none but those in memory.
pub fn space(folder: &Path) -> Space {
    let mut all = Space::default();
    let mut seen = HashSet::new();
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let Ok(found) = fs::symlink_metadata(&path) else {
            continue;
        };
        if found.nlink() > 1 && !found.is_dir() && !seen.insert((found.dev(), found.ino())) {
            continue;
        }
        all += Space {
            bytes: found.blocks() * 512,
            inodes: 1,
        };
        if found.is_dir() {
            let entries = fs::read_dir(&path).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path()));
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_counts_blocks_once_and_follows_no_links() {
        let temp = tempfile::tempdir().unwrap();
        fs::create_dir(temp.path().join("deep")).unwrap();
        let file = temp.path().join("deep/file");
        fs::write(&file, vec![1; 100_000]).unwrap();
        fs::hard_link(&file, temp.path().join("again")).unwrap();
        std::os::unix::fs::symlink("/usr", temp.path().join("link")).unwrap();
        let found = space(temp.path());
        assert_eq!(found.inodes, 4);
        assert!((100_000..200_000).contains(&found.bytes), "{found:?}");
        assert_eq!(space(&temp.path().join("none")), Space::default());
    }
}
