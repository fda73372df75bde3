//! The folders (and files that stand for devices) that the built-in provisioner promised on this node: each is
//! followed until its volume is released, then removed, and then the volume too.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::storage::{self, LOCAL_PATH, PROVISIONED_BY};
use base::{OnError, Tasks};
use client::{Cache, Change, Client, DeleteOptions, Selectors};
use k8s_openapi::api::core::v1::PersistentVolume;

use crate::paths::Paths;

/// Pause before something that failed is tried again, or a folder in use is looked at again.
const RETRY: Duration = Duration::from_secs(2);

/// Follows the folders. Cheap to clone.
#[derive(Clone)]
pub struct LocalPaths {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    paths: Paths,
    tasks: Tasks,
    // A std mutex: nothing awaits while it is held.
    followed: Mutex<HashSet<PathBuf>>,
}

/// What is to become of a folder.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// It stays, and is followed.
    Stays,
    /// It goes.
    Goes,
    /// It stays, and nobody asks for it any more.
    Abandoned,
}

/// What a change of its volume means for a folder. What was to be kept (`Retain`) stays even when
/// somebody has deleted the volume.
fn fate(change: &Change<PersistentVolume>) -> Fate {
    let volume = change.object();
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let ours = storage::note(&volume.metadata, PROVISIONED_BY) == LOCAL_PATH;
    let deletable = ours && policy == Some("Delete");
    match change {
        Change::Applied(..) if deletable && storage::volume_phase(volume) == "Released" => Fate::Goes,
        Change::Applied(..) => Fate::Stays,
        Change::Deleted(_) if deletable => Fate::Goes,
        Change::Deleted(_) => Fate::Abandoned,
    }
}

impl LocalPaths {
    /// Folders below [`Paths::local_path`], followed through `client` by tasks of `tasks`.
    pub fn new(client: Client, paths: Paths, tasks: Tasks) -> LocalPaths {
        let followed = Mutex::default();
        LocalPaths {
            inner: Arc::new(Inner {
                client,
                paths,
                tasks,
                followed,
            }),
        }
    }

    /// Follows the folders that are there from before.
    pub fn resume(&self) {
        let entries = fs::read_dir(self.inner.paths.local_path());
        for entry in entries.into_iter().flatten().flatten() {
            self.follow(&entry.path());
        }
    }

    /// Follows one folder, unless it is followed already.
    pub fn follow(&self, folder: &Path) {
        // `PV_NAMESPACE_CLAIM`; no name of an object holds a `_`.
        let name = folder
            .file_name()
            .and_then(|name| name.to_str()?.split('_').next());
        let Some(name) = name.filter(|name| !name.is_empty()).map(str::to_owned) else {
            return;
        };
        let mut followed = self.inner.followed.lock().unwrap_or_else(PoisonError::into_inner);
        if !followed.insert(folder.to_owned()) {
            return;
        }
        let (inner, folder) = (self.inner.clone(), folder.to_owned());
        self.inner
            .tasks
            .spawn(format!("folder of {name}"), OnError::Log, async move {
                inner.follow(&name, &folder).await;
                let mut followed = inner.followed.lock().unwrap_or_else(PoisonError::into_inner);
                followed.remove(&folder);
            });
    }
}

impl Inner {
    async fn follow(&self, name: &str, folder: &Path) {
        let tasks = self.tasks.child();
        let selectors = Selectors::all().fields(format!("metadata.name={name}"));
        let cache = Cache::<PersistentVolume>::start(&self.client, selectors, &tasks);
        let mut changes = cache.changes();
        cache.synced().await;
        if cache.is_empty() {
            tracing::warn!(folder = %folder.display(), "a volume's folder stays, though its volume is gone");
        } else {
            while let Some(change) = changes.recv().await {
                match fate(&change) {
                    Fate::Stays => {}
                    Fate::Abandoned => break,
                    Fate::Goes => {
                        self.remove(folder, change.object()).await;
                        break;
                    }
                }
            }
        }
        tasks.cancel();
    }

    /// Removes the folder once no pod here shows it, then the volume.
    async fn remove(&self, folder: &Path, volume: &PersistentVolume) {
        loop {
            let (pods, path) = (self.paths.pods(), folder.to_owned());
            let removed = tokio::task::spawn_blocking(move || {
                if is_shown(&pods, &path) {
                    return Err(io::Error::from(io::ErrorKind::ResourceBusy));
                }
                remove(&path)
            });
            match removed.await {
                Ok(Ok(())) => break,
                Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => break,
                Ok(Err(error)) => tracing::debug!(folder = %folder.display(), %error, "not yet removed"),
                Err(_) => return,
            }
            tokio::time::sleep(RETRY).await;
        }
        let options = DeleteOptions {
            uid: volume.metadata.uid.clone(),
            ..DeleteOptions::default()
        };
        let name = volume.metadata.name.as_deref().unwrap_or_default();
        loop {
            match self.client.delete::<PersistentVolume>("", name, &options).await {
                Ok(()) => return,
                Err(status) if status.is_not_found() || status.is_conflict() => return,
                Err(status) => tracing::debug!(volume = name, error = %status, "not yet deleted"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

/// Whether a pod's folder links to that path.
fn is_shown(pods: &Path, path: &Path) -> bool {
    showing(pods, path).next().is_some()
}

/// The links in pods' folders that lead to that path.
pub(super) fn showing(pods: &Path, path: &Path) -> impl Iterator<Item = PathBuf> {
    let pods = fs::read_dir(pods).into_iter().flatten().flatten();
    let links = pods.flat_map(|pod| links(&pod.path()));
    links.filter(move |link| fs::read_link(link).is_ok_and(|target| target == path))
}

/// The links in a pod's folder.
pub(super) fn links(pod: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir(pod.join("volumes").join(super::PERSISTENT));
    links
        .into_iter()
        .flatten()
        .flatten()
        .map(|link| link.path())
        .collect()
}

/// Removes a folder with all that is in it, or a file that stands for a device.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path)?.is_dir() {
        true => fs::remove_dir_all(path),
        false => fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn volume(by: &str, policy: &str, phase: &str) -> Arc<PersistentVolume> {
        let volume = json!({"metadata": {"name": "pvc-1", "annotations": {PROVISIONED_BY: by}},
            "spec": {"persistentVolumeReclaimPolicy": policy}, "status": {"phase": phase}});
        Arc::new(serde_json::from_value(volume).unwrap())
    }

    #[test]
    fn only_what_was_released_to_be_deleted_goes() {
        let applied = |by, policy, phase| fate(&Change::Applied(volume(by, policy, phase), None));
        assert_eq!(applied(LOCAL_PATH, "Delete", "Bound"), Fate::Stays);
        assert_eq!(applied(LOCAL_PATH, "Delete", "Released"), Fate::Goes);
        assert_eq!(applied(LOCAL_PATH, "Retain", "Released"), Fate::Stays);
        assert_eq!(applied("else", "Delete", "Released"), Fate::Stays);
        let deleted = |policy| fate(&Change::Deleted(volume(LOCAL_PATH, policy, "Bound")));
        assert_eq!(deleted("Delete"), Fate::Goes);
        assert_eq!(deleted("Retain"), Fate::Abandoned);
    }

    #[test]
    fn a_folder_is_in_use_while_a_pod_links_to_it() {
        let temp = tempfile::tempdir().unwrap();
        let folder = temp.path().join("local-path/pvc-1_d_data");
        let links = temp.path().join("pods/u1/volumes/persistent");
        fs::create_dir_all(&links).unwrap();
        assert!(!is_shown(&temp.path().join("pods"), &folder));
        std::os::unix::fs::symlink(&folder, links.join("data")).unwrap();
        assert!(is_shown(&temp.path().join("pods"), &folder));
        assert_eq!(super::links(&temp.path().join("pods/u1")), [links.join("data")]);
    }
}
