//! Following the folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base::Clock;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;

use super::file;
use crate::pods::spec;

/// How often the folder is looked at.
const EVERY: Duration = Duration::from_secs(1);
/// A longer file is no manifest.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Pods of a folder, all that it asks for at the time.
pub type Wanted = Vec<Arc<Pod>>;

/// What tells that a file has changed.
#[derive(Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
}

/// A folder of manifests, one pod in each file; those that begin with a dot do not count.
pub struct Folder {
    path: PathBuf,
    node: String,
    clock: Arc<dyn Clock>,
    stamps: BTreeMap<PathBuf, Stamp>,
    pods: BTreeMap<PathBuf, Arc<Pod>>,
}

impl Folder {
    /// The folder at `path`, for the node of that name. It need not exist.
    pub fn new(path: PathBuf, node: &str, clock: Arc<dyn Clock>) -> Folder {
        let (stamps, pods) = Default::default();
        Folder {
            path,
            node: node.to_owned(),
            clock,
            stamps,
            pods,
        }
    }

    /// Looks at the folder now; what it asks for, if that changed.
    pub fn look(&mut self) -> Option<Wanted> {
        let stamps = stamps(&self.path);
        if stamps == self.stamps {
            return None;
        }
        self.pods.retain(|path, _| stamps.contains_key(path));
        for (path, stamp) in &stamps {
            if self.stamps.get(path) != Some(stamp) {
                self.read(path);
            }
        }
        self.stamps = stamps;
        Some(self.wanted())
    }

    /// Reads a file. One that is not (or no longer) a pod says so in the log; what it asked for before goes on,
    /// since it may be half written.
    fn read(&mut self, path: &Path) {
        let text = fs::read_to_string(path).map_err(|error| error.to_string());
        match text.and_then(|text| file::pod(&text, path, &self.node, self.clock.now())) {
            Ok(pod) => {
                let same = |old: &&Arc<Pod>| old.metadata.uid == pod.metadata.uid;
                if self.pods.get(path).filter(same).is_none() {
                    self.pods.insert(path.to_owned(), Arc::new(pod));
                }
            }
            Err(why) => tracing::warn!(file = %path.display(), why, "a static pod's file was not taken"),
        }
    }

    /// The pods, of several with the same name the first.
    fn wanted(&self) -> Wanted {
        let mut wanted: Wanted = Vec::new();
        for (path, pod) in &self.pods {
            let same = |other: &&Arc<Pod>| {
                spec::namespace(other) == spec::namespace(pod) && spec::name(other) == spec::name(pod)
            };
            if wanted.iter().find(same).is_some() {
                tracing::warn!(file = %path.display(), "another file has a static pod of that name");
            } else {
                wanted.push(pod.clone());
            }
        }
        wanted
    }

    /// Tells what the folder asks for whenever that changes, as long as somebody listens.
    pub async fn follow(mut self, tell: mpsc::UnboundedSender<Wanted>) {
        let mut timer = tokio::time::interval(EVERY);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let looked = tokio::task::spawn_blocking(move || {
                let wanted = self.look();
                (self, wanted)
            });
            let Ok((folder, wanted)) = looked.await else {
                return;
            };
            self = folder;
            if wanted.is_some_and(|wanted| tell.send(wanted).is_err()) {
                return;
            }
        }
    }
}

fn stamps(folder: &Path) -> BTreeMap<PathBuf, Stamp> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let files = entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'));
    files
        .filter_map(|entry| {
            // Followed: a link to a manifest elsewhere is one.
            let found = fs::metadata(entry.path()).ok()?;
            let stamp = Stamp {
                modified: found.modified().ok(),
                bytes: found.len(),
            };
            (found.is_file() && found.len() <= FILE_BYTES_MAX).then_some((entry.path(), stamp))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use base::SystemClock;

    use super::*;

    fn manifest(name: &str, image: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{containers: [{{name: a, image: '{image}'}}]}}\n"
        )
    }

    #[test]
    fn files_come_change_and_go() {
        let temp = tempfile::tempdir().unwrap();
        let mut folder = Folder::new(temp.path().join("pods"), "n", Arc::new(SystemClock::new()));
        assert!(folder.look().is_none(), "no folder, no pods");
        fs::create_dir(temp.path().join("pods")).unwrap();
        let file = |name: &str| temp.path().join("pods").join(name);
        fs::write(file("a.yaml"), manifest("a", "app:1")).unwrap();
        fs::write(file(".hidden"), manifest("h", "app:1")).unwrap();
        fs::write(file("copy.yaml"), manifest("a", "app:1")).unwrap();
        let first = folder.look().unwrap();
        assert_eq!(
            first.len(),
            1,
            "hidden files and second ones of a name do not count"
        );
        assert!(folder.look().is_none());
        fs::remove_file(file("copy.yaml")).unwrap();
        fs::write(file("a.yaml"), manifest("a", "app:22")).unwrap();
        let second = folder.look().unwrap();
        assert_ne!(second[0].metadata.uid, first[0].metadata.uid);
        // Half a file does not end what runs.
        fs::write(file("a.yaml"), "apiVersion: v1\nkind: P").unwrap();
        assert_eq!(folder.look().unwrap()[0].metadata.uid, second[0].metadata.uid);
        fs::remove_file(file("a.yaml")).unwrap();
        assert!(folder.look().unwrap().is_empty());
    }
}
