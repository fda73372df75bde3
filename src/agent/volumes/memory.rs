//! Where Secrets and tokens of volumes lie: in memory, so that they are on no
//! disk. One file system for all pods of the node; mounting one for each volume
//! would make the mount table as long as there are pods.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use nix::mount::{MsFlags, mount};

/// Makes the folder and mounts memory there, unless that was done before.
///
/// # Errors
/// What the kernel says to those who may not mount.
pub fn open(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    if is_mounted(folder) {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some("mode=0755"))?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Whether a folder is on another file system than the one it lies in.
pub fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|found| found.dev()).ok();
    device(path) != path.parent().and_then(device)
}
