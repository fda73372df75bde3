//! Where a pod's containers lie, and what is left of one that has ended.

use std::fs;
use std::path::{Path, PathBuf};

use crate::spec::{ContainersConfig, Exit, OciError};

/// The folder of a pod below the configured one; a UID becomes part of a path, so it must look like one.
pub(super) fn pod_dir(config: &ContainersConfig, uid: &str) -> Result<PathBuf, OciError> {
    let plain = !uid.is_empty() && uid.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if plain {
        Ok(config.dir.join(uid))
    } else {
        Err(OciError::Create(format!("{uid:?} is not a pod's UID")))
    }
}

/// The cgroup of a pod; a container's lies below it.
pub(crate) fn pod_cgroup(instance_id: &str, uid: &str) -> String {
    format!("/coracle-{instance_id}/pod{uid}")
}

pub(super) fn io(context: &str) -> impl FnOnce(std::io::Error) -> OciError + '_ {
    move |error| OciError::Io {
        context: context.to_owned(),
        reason: error.to_string(),
    }
}

pub(super) fn read_exit(dir: &Path) -> Option<Exit> {
    serde_json::from_slice(&fs::read(dir.join("exit.json")).ok()?).ok()
}
