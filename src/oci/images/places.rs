//! Where things lie in the store's folder, and who may change it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::{ImageError, disk};

/// Where a layer lies. Half the digest is enough to tell layers apart, and
/// keeps the mount options of a deep stack within a page.
pub(super) fn layer(dir: &Path, diff_id: &str) -> PathBuf {
    let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
    dir.join("layers").join(hex.get(..32).unwrap_or("malformed"))
}

/// A fresh path below `tmp/`.
pub(super) fn temporary(dir: &Path, what: &str) -> Result<PathBuf, ImageError> {
    use base::random::{Random, SystemRandom};
    let tmp = dir.join("tmp");
    fs::create_dir_all(&tmp).map_err(disk("making a temporary folder"))?;
    Ok(tmp.join(format!("{what}-{}-{}", std::process::id(), SystemRandom.hex(8))))
}

/// Keeps everybody else who uses the folder from changing it, until dropped.
pub(super) fn lock(dir: &Path) -> Result<File, ImageError> {
    let lock = File::create(dir.join("lock")).map_err(disk("locking the images"))?;
    lock.lock().map_err(disk("locking the images"))?;
    Ok(lock)
}
