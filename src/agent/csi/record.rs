//! What is written down of a volume before its driver is asked for it, so that it can be undone by whoever
//! comes after an agent that was killed.
//!
//! ```text
//! pods/UID/volumes/kubernetes.io~csi/NAME/{vol_data.json,mount}
//! plugins/kubernetes.io/csi/DRIVER/DIGEST/{vol_data.json,globalmount}
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base::files::absent_is_fine;
use plugins::csi::{AccessMode, AccessType, BlockVolume, MountVolume, VolumeCapability};
use serde::{Deserialize, Serialize};

use crate::disk;
use crate::paths::Paths;

/// The file in a volume's folder.
const FILE: &str = "vol_data.json";
/// What the driver shows a pod, beside it.
pub(super) const TARGET: &str = "mount";
/// What the driver prepares for all pods.
const STAGE: &str = "globalmount";
/// Of the file.
const VERSION: u32 = 1;

/// What there is to know of a volume that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    /// Of this format.
    pub version: u32,
    /// The driver.
    pub driver: String,
    /// What the driver knows the volume by.
    pub handle: String,
    /// The PersistentVolume; empty for a pod's own volume.
    pub volume: String,
    /// Namespace and name of its claim.
    pub claim: (String, String),
    /// Its name in the pod.
    pub shown_as: String,
    /// A device, not a file system.
    pub block: bool,
    /// Type of the file system; empty for any.
    pub fs_type: String,
    /// Options of the mount.
    pub options: Vec<String>,
    /// By how many it is used, as CSI counts it.
    pub mode: i32,
    /// Which start of the machine it was shown in; empty before that.
    pub boot: String,
}

impl Record {
    /// Of the present format, otherwise empty.
    pub fn new() -> Record {
        Record {
            version: VERSION,
            ..Record::default()
        }
    }

    /// How the volume is used, in CSI's words.
    pub fn capability(&self, group: &str) -> VolumeCapability {
        let access = if self.block {
            AccessType::Block(BlockVolume {})
        } else {
            AccessType::Mount(MountVolume {
                fs_type: self.fs_type.clone(),
                mount_flags: self.options.clone(),
                volume_mount_group: group.to_owned(),
            })
        };
        VolumeCapability {
            access_mode: Some(AccessMode { mode: self.mode }),
            access_type: Some(access),
        }
    }
}

/// Reads a volume's record.
pub(super) fn read(folder: &Path) -> Option<Record> {
    disk::read_json::<Record>(&folder.join(FILE)).filter(|record| record.version == VERSION)
}

/// Writes it, durably: what the driver does next must be undone even after a power cut.
pub(super) fn write(folder: &Path, record: &Record) -> Result<(), String> {
    let fail = |error: io::Error| format!("{}: {error}", folder.display());
    disk::write_json(&folder.join(FILE), record, true).map_err(fail)
}

/// Removes it, and its folder, which must hold nothing else but an empty place of a mount.
pub(super) fn remove(folder: &Path) -> Result<(), String> {
    let fail = |error: io::Error| format!("{}: {error}", folder.display());
    for place in [TARGET, STAGE] {
        let place = folder.join(place);
        // Whatever is still in it is not ours to remove.
        match fs::symlink_metadata(&place) {
            Ok(found) if found.is_dir() => fs::remove_dir(&place).map_err(fail)?,
            Ok(_) => fs::remove_file(&place).map_err(fail)?,
            Err(_) => {}
        }
    }
    absent_is_fine(fs::remove_file(folder.join(FILE))).map_err(fail)?;
    absent_is_fine(fs::remove_dir(folder)).map_err(fail)
}

/// The folder in which a driver stages a volume.
pub(super) fn stage(paths: &Paths, driver: &str, handle: &str) -> PathBuf {
    stages(paths, driver).join(api::csi::digest(handle))
}

/// What of it the driver fills.
pub(super) fn staged_at(folder: &Path) -> PathBuf {
    folder.join(STAGE)
}

/// All that a driver has staged.
pub(super) fn stages(paths: &Paths, driver: &str) -> PathBuf {
    paths.plugins().join("kubernetes.io/csi").join(driver)
}

/// The folders below one that hold a record.
pub(super) fn below(folder: &Path) -> Vec<(PathBuf, Record)> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| Some((entry.path(), read(&entry.path())?)));
    found.collect()
}

/// Every volume that some pod here is shown, or was about to be.
pub(super) fn shown(paths: &Paths) -> Vec<(PathBuf, Record)> {
    let pods = fs::read_dir(paths.pods()).into_iter().flatten().flatten();
    let uids = pods.filter_map(|pod| pod.file_name().to_str().map(str::to_owned));
    uids.flat_map(|uid| below(&paths.csi_volumes(&uid))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_found_again_and_goes_without_a_trace() {
        let temp = tempfile::tempdir().unwrap();
        let paths = Paths::new(temp.path());
        let folder = paths.csi_volumes("u1").join("pv-1");
        let record = Record {
            driver: "d".to_owned(),
            handle: "h".to_owned(),
            ..Record::new()
        };
        write(&folder, &record).unwrap();
        fs::create_dir(folder.join(TARGET)).unwrap();
        assert_eq!(shown(&paths), [(folder.clone(), record)]);
        remove(&folder).unwrap();
        assert!(!folder.exists());
        remove(&folder).unwrap();
        // A place with something in it stays: that would be somebody's data.
        write(&folder, &Record::new()).unwrap();
        fs::create_dir(folder.join(TARGET)).unwrap();
        fs::write(folder.join(TARGET).join("data"), "").unwrap();
        assert!(remove(&folder).is_err());
        assert!(folder.join(TARGET).join("data").exists());
    }
}
