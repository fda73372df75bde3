//! `fsGroup`: a volume's files belong to the pod's group.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use k8s_openapi::api::core::v1::Pod;

use super::payload;
use crate::pods::spec;

/// Files of the group may be read and written by it, folders entered; what is made in them is the group's.
const FILE_BITS: u32 = 0o660;
const FOLDER_BITS: u32 = 0o2770;

/// Whose a volume is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// The group.
    pub group: u32,
    /// `fsGroupChangePolicy: OnRootMismatch`: the topmost folder stands for all.
    pub by_root: bool,
}

/// What the pod says about the volumes it may write.
pub fn wanted(pod: &Pod) -> Option<Ownership> {
    let context = spec::spec(pod).security_context.as_ref();
    let policy = context.and_then(|context| context.fs_group_change_policy.as_deref());
    payload::group(pod).map(|group| Ownership {
        group,
        by_root: policy == Some("OnRootMismatch"),
    })
}

/// Gives everything below `root`, and itself, to the group. Links are given, never followed.
///
/// # Errors
/// The disk.
pub fn give(root: &Path, to: &Ownership) -> io::Result<()> {
    let found = fs::symlink_metadata(root)?;
    let fits = found.gid() == to.group && found.mode() & FOLDER_BITS == FOLDER_BITS;
    if to.by_root && fits {
        return Ok(());
    }
    give_below(root, to.group)
}

fn give_below(path: &Path, group: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        // The topmost folder last: with `OnRootMismatch` it says that all the rest is done.
        for entry in fs::read_dir(path)? {
            give_below(&entry?.path(), group)?;
        }
    }
    if found.gid() != group {
        lchown(path, None, Some(group))?;
    }
    let bits = if found.is_dir() { FOLDER_BITS } else { FILE_BITS };
    if found.is_symlink() || found.mode() & bits == bits {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(found.mode() & 0o7777 | bits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_below_is_given_and_links_are_not_followed() {
        let temp = tempfile::tempdir().unwrap();
        let outside = temp.path().join("outside");
        let root = temp.path().join("volume");
        fs::create_dir_all(root.join("deep")).unwrap();
        fs::write(&outside, "").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(root.join("deep/file"), "").unwrap();
        fs::set_permissions(root.join("deep/file"), fs::Permissions::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        // Giving to the group one has needs no rights.
        let group = fs::metadata(&root).unwrap().gid();
        let to = |by_root| Ownership { group, by_root };
        give(&root, &to(true)).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&root.join("deep/file")), 0o660);
        assert_eq!(mode(&root.join("deep")) & 0o2770, 0o2770);
        assert_eq!(mode(&outside), 0o600);
        // What stands for all is looked at alone, if the pod says so.
        fs::set_permissions(root.join("deep/file"), fs::Permissions::from_mode(0o600)).unwrap();
        give(&root, &to(true)).unwrap();
        assert_eq!(mode(&root.join("deep/file")), 0o600);
        give(&root, &to(false)).unwrap();
        assert_eq!(mode(&root.join("deep/file")), 0o660);
    }
}
