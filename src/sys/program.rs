//! A program as others may run it and nobody may change it.

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What `mount_setattr` is told (`struct mount_attr`).
#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// `MOUNT_ATTR_RDONLY`.
const READ_ONLY: u64 = 1;

/// Opens a program through a mount of its own, which no namespace shows and through which nothing can be written.
/// Whoever is run from there and gets at the program by `/proc/PID/exe` (as a container does that has itself run
/// by the runtime) cannot replace it, whatever its rights: Linux 5.12 and later.
///
/// # Errors
/// The kernel's; it takes the right to mount.
pub fn read_only(program: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(program.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path ends with a zero and outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just given it to us alone.
    let tree = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = MountAttributes {
        set: READ_ONLY,
        ..MountAttributes::default()
    };
    let (empty, size) = (c"".as_ptr(), size_of::<MountAttributes>());
    // SAFETY: both pointers outlive the call, and the size is that of what the second one leads to.
    let set = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd,
            empty,
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size,
        )
    };
    if set == 0 {
        Ok(tree)
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::beneath::path_of;

    #[test]
    fn it_runs_and_cannot_be_written() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let temp = tempfile::tempdir().unwrap();
        let copy = temp.path().join("true");
        std::fs::copy("/bin/true", &copy).unwrap();
        let guarded = read_only(&copy).unwrap();
        assert!(Command::new(path_of(&guarded)).status().unwrap().success());
        let error = std::fs::OpenOptions::new()
            .write(true)
            .open(path_of(&guarded))
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ReadOnlyFilesystem);
        assert!(
            std::fs::OpenOptions::new().write(true).open(&copy).is_ok(),
            "whoever owns it may"
        );
    }
}
