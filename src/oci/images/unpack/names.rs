//! Names in an archive, and what is said of one that cannot be taken.

use std::io;
use std::path::{Component, Path, PathBuf};

use crate::images::error::ImageError;
use crate::images::limits;

/// Longest name, as the kernel's own for paths.
const NAME_BYTES_MAX: usize = 4096;

/// Words a failure to read the archive, or to write what is in it.
pub(super) fn damaged(root: &Path, error: io::Error) -> ImageError {
    if error.kind() == io::ErrorKind::StorageFull {
        return limits::no_room(root.parent().unwrap_or(root), "nothing is left");
    }
    ImageError::Unusable(format!("damaged layer: {error}"))
}

pub(super) fn refuse(path: &Path, why: impl std::fmt::Display) -> ImageError {
    const SHOWN_MAX: usize = 200;
    let shown: String = path.display().to_string().chars().take(SHOWN_MAX).collect();
    ImageError::Unusable(format!("layer entry {shown:?}: {why}"))
}

/// A name within the layer, as if its root were the root: nothing leads above it.
pub(super) fn clean(path: &Path) -> Result<PathBuf, ImageError> {
    if path.as_os_str().len() > NAME_BYTES_MAX {
        return Err(refuse(
            path,
            format!("its name has more than {NAME_BYTES_MAX} bytes"),
        ));
    }
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir if clean.pop() => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refuse(path, "leaves the layer")),
        }
    }
    Ok(clean)
}
