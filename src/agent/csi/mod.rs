//! Volumes of CSI drivers: programs beside the agent that listen on sockets of their own.
//!
//! ```text
//! plugins_registry/X.sock ─▶ registry: who are you? ─▶ drivers, CSINode
//! pod ─▶ publish: attached? ─▶ stage (once a node) ─▶ publish (once a pod) ─▶ group, growth
//! pod gone ─▶ withdraw: unpublish ─▶ nobody else? ─▶ unstage
//! ```
//! What a driver was asked for is written down before it is asked (`record`), so whoever comes after an agent
//! that was killed undoes it.

mod attach;
mod drivers;
mod grow;
mod info;
mod publish;
mod record;
mod registry;
mod rules;
mod usage;
mod wanted;
mod withdraw;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use client::{Client, Recorder};
use plugins::Status;
use tokio::sync::OwnedMutexGuard;

pub use wanted::Wanted;
pub use withdraw::in_use;

use crate::node::machine::boot_id;
use crate::paths::Paths;
use drivers::Drivers;

/// How long a driver may take for one call, as with the kubelet.
const PATIENCE: Duration = Duration::from_secs(120);

/// The drivers of this node and the volumes they show. Cheap to clone.
#[derive(Clone)]
pub struct Csi {
    client: Client,
    recorder: Recorder,
    paths: Paths,
    node: String,
    drivers: Drivers,
    turns: Turns,
}

/// One task at a time works on a volume.
type Turns = Arc<Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>>;

impl Csi {
    /// Drivers of the node with that name; what they are asked for is written below `paths`.
    pub fn new(client: Client, recorder: Recorder, paths: Paths, node: String) -> Csi {
        Csi {
            client,
            recorder,
            paths,
            node,
            drivers: Drivers::default(),
            turns: Turns::default(),
        }
    }

    /// Whether a path that a pod's folder links to is of a volume that has to be shown anew: the machine has
    /// been started again since.
    pub fn is_stale(&self, path: &Path) -> bool {
        let record = || record::read(path.parent()?);
        self.shows(path) && record().is_none_or(|record| record.boot != boot_id())
    }

    /// Whether a path is of a volume that a driver shows.
    pub fn shows(&self, path: &Path) -> bool {
        path.starts_with(self.paths.csi_pods()) && path.file_name().is_some_and(|name| name == record::TARGET)
    }

    async fn turn(&self, driver: &str, handle: &str) -> OwnedMutexGuard<()> {
        let volume = format!("{driver} {handle}");
        let turn = {
            let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            // What nobody waits for is forgotten.
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(volume).or_default().clone()
        };
        turn.lock_owned().await
    }

    fn folder(&self, pod_uid: &str, name: &str) -> PathBuf {
        self.paths.csi_volumes(pod_uid).join(name)
    }
}

/// A driver's failure, as Go's client writes it.
fn told(status: &Status) -> String {
    format!(
        "rpc error: code = {:?} desc = {}",
        status.code(),
        status.message()
    )
}
