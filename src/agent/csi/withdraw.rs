//! Taking volumes back: from a pod, and from the node when no pod of it is left.

use std::path::Path;

use base::files::absent_is_fine;
use plugins::csi::{NodeAbility, NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest};

use super::drivers::Driver;
use super::record::{self, Record};
use super::{Csi, PATIENCE, told};
use crate::paths::Paths;

impl Csi {
    /// Takes back every volume that a pod was shown, or was about to be.
    ///
    /// # Errors
    /// The first that its driver did not take back; it may be tried again.
    pub async fn withdraw(&self, pod_uid: &str) -> Result<(), String> {
        for (folder, record) in record::below(&self.paths.csi_volumes(pod_uid)) {
            let _turn = self.turn(&record.driver, &record.handle).await;
            let driver = self.drivers.get(&record.driver)?;
            let request = NodeUnpublishVolumeRequest {
                volume_id: record.handle.clone(),
                target_path: folder.join(record::TARGET).display().to_string(),
            };
            let done = driver.plugin.call(request, PATIENCE).await;
            done.map_err(|status| {
                format!(
                    "UnmountVolume.TearDown failed for volume {:?} : {}",
                    record.shown_as,
                    told(&status)
                )
            })?;
            // The stage first: without the pod's record nobody would know that it is there.
            self.unstage(&driver, &record, Some(&folder)).await?;
            record::remove(&folder)?;
        }
        // What is left without a record may be somebody's data, which must not go with the pod's folder.
        let left = self.paths.csi_volumes(pod_uid);
        absent_is_fine(std::fs::remove_dir(&left)).map_err(|error| format!("{}: {error}", left.display()))
    }

    /// Takes the stage of a volume back if no pod but the one with that folder uses it.
    async fn unstage(&self, driver: &Driver, record: &Record, leaving: Option<&Path>) -> Result<(), String> {
        let folder = record::stage(&self.paths, &record.driver, &record.handle);
        if !folder.exists() {
            return Ok(());
        }
        let same = |other: &Record| other.driver == record.driver && other.handle == record.handle;
        let shown = record::shown(&self.paths);
        if shown
            .iter()
            .any(|(path, other)| same(other) && Some(path.as_path()) != leaving)
        {
            return Ok(());
        }
        if driver.can(NodeAbility::StageUnstageVolume) {
            let request = NodeUnstageVolumeRequest {
                volume_id: record.handle.clone(),
                staging_target_path: record::staged_at(&folder).display().to_string(),
            };
            let done = driver.plugin.call(request, PATIENCE).await;
            done.map_err(|status| {
                format!(
                    "UnmountDevice failed for volume {:?} : {}",
                    record.volume,
                    told(&status)
                )
            })?;
        }
        record::remove(&folder)
    }

    /// Takes back what a driver staged for pods that are gone: the agent ended between the two.
    pub(super) async fn clear_stages(&self, name: &str) {
        let Ok(driver) = self.drivers.get(name) else {
            return;
        };
        for (_, record) in record::below(&record::stages(&self.paths, name)) {
            let _turn = self.turn(&record.driver, &record.handle).await;
            if let Err(error) = self.unstage(&driver, &record, None).await {
                tracing::warn!(
                    volume = record.volume,
                    error,
                    "a volume that nobody uses is still staged"
                );
            }
        }
    }
}

/// The volumes that a node uses, by the names under which Nodes list them.
pub fn in_use(paths: &Paths) -> Vec<String> {
    let shown = record::shown(paths).into_iter();
    let lasting = shown.filter(|(_, record)| !record.volume.is_empty());
    let mut names: Vec<String> = lasting
        .map(|(_, record)| api::csi::unique_name(&record.driver, &record.handle))
        .collect();
    names.sort();
    names.dedup();
    names
}
