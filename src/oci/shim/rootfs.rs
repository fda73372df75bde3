//! A container's root file system: the image's layers and a folder for what it writes, one upon the other.
//!
//! It is put together in the container's place on the [stage](super::stage), which only this pod's shim sees.

use std::fs;
use std::io;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::users::Users;
use crate::spec::OciError;

/// Where it is mounted, below a container's place.
pub(super) fn place(stage: &Path) -> PathBuf {
    stage.join("rootfs")
}

/// Mounts it: what the container writes lies in `dir`.
pub(super) fn stack(
    layers: &[PathBuf],
    dir: &Path,
    stage: &Path,
    users: Option<&Users>,
) -> Result<(), OciError> {
    let fail = |error: io::Error| OciError::Create(format!("mounting the root file system: {error}"));
    for layer in layers {
        if !layer.is_dir() {
            let text =
                "a layer of the image is missing from this machine: remove the image and pull it again";
            return Err(OciError::Create(text.to_owned()));
        }
    }
    for folder in [dir.join("upper"), dir.join("work"), place(stage)] {
        fs::create_dir_all(folder).map_err(fail)?;
    }
    let Some(users) = users else {
        let folder = layers.first().and_then(|layer| layer.parent());
        let folder = folder.ok_or_else(|| OciError::Create("the image has no layers".to_owned()))?;
        return overlay(folder, &names(layers), dir, stage).map_err(fail);
    };
    chown(dir.join("upper"), Some(users.first), Some(users.first)).map_err(fail)?;
    let lower = Lower::bind(layers, &stage.join("lower"), users).map_err(fail)?;
    overlay(&lower.folder, &names(&lower.layers), dir, stage).map_err(fail)
}

/// Removes what [`stack`] has mounted, and its place; repeating it is no error.
pub(super) fn unmount(stage: &Path) {
    let root = place(stage);
    let _ = umount2(&root, MntFlags::MNT_DETACH);
    // Never what is in it: somebody's files, if the mount is still there.
    let _ = fs::remove_dir(root);
}

/// The layers as a pod with users of its own sees them. The overlay keeps mounts of its own, so these go at once.
struct Lower {
    folder: PathBuf,
    layers: Vec<PathBuf>,
}

impl Lower {
    fn bind(layers: &[PathBuf], folder: &Path, users: &Users) -> io::Result<Lower> {
        let mut lower = Lower {
            folder: folder.to_owned(),
            layers: Vec::new(),
        };
        for (number, layer) in layers.iter().enumerate() {
            let place = folder.join(number.to_string());
            fs::create_dir_all(&place)?;
            lower.layers.push(place.clone());
            users.bind(fs::File::open(layer)?, &place)?;
        }
        Ok(lower)
    }
}

impl Drop for Lower {
    fn drop(&mut self) {
        for layer in &self.layers {
            let _ = umount2(layer, MntFlags::MNT_DETACH);
            let _ = fs::remove_dir(layer);
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

/// The layers' names, topmost first. They lie side by side in one folder and are named relative to it, as the
/// options must fit in a page.
fn names(layers: &[PathBuf]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in layers.iter().rev().filter_map(|layer| layer.file_name()) {
        let name = name.to_string_lossy().into_owned();
        // Overlayfs refuses a folder given twice; the upper one hides all of the lower.
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn overlay(folder: &Path, names: &[String], dir: &Path, stage: &Path) -> io::Result<()> {
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        names.join(":"),
        dir.join("upper").display(),
        dir.join("work").display()
    );
    std::env::set_current_dir(folder)?;
    let (kind, root) = (Some("overlay"), place(stage));
    let result = mount(kind, &root, kind, MsFlags::empty(), Some(options.as_str()));
    let _ = std::env::set_current_dir("/");
    Ok(result?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_named_once_the_topmost_first() {
        let layers = ["/l/a", "/l/b", "/l/a"].map(PathBuf::from);
        assert_eq!(names(&layers), ["a", "b"]);
    }
}
