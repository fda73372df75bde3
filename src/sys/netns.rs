//! Network namespaces, held open by bind mounts and entered by threads.
//!
//! A namespace belongs to a thread, not to the process: everything here acts
//! on the calling thread alone. No function forks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{NSFS_MAGIC, statfs};

/// The calling thread's own namespace.
const CURRENT: &str = "/proc/thread-self/ns/net";

/// The index that the loopback device has in every namespace.
pub const LOOPBACK: u32 = 1;

/// Makes a new network namespace and holds it by a bind mount on `path`,
/// which is created (its folder too). Loopback is down in it, nothing else
/// exists.
///
/// Fails with `AlreadyExists` if a namespace is mounted there; a plain file
/// left over from before a reboot is used again.
pub fn create(path: &Path) -> io::Result<OwnedFd> {
    make_place(path)?;
    let home = current()?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|e| with_path(e.into(), "new network namespace for", path))?;
    let _back = ReturnTo(&home);
    bind(Path::new(CURRENT), path)?;
    current()
}

/// Makes one as [`create`] does that belongs to a user namespace, made with it, of the machine's ids from `first` on.
///
/// # Errors
/// As [`create`] and [`crate::userns::create`].
pub fn create_for(path: &Path, first: u32) -> io::Result<()> {
    make_place(path)?;
    let holder = crate::userns::create(first, CloneFlags::CLONE_NEWNET)
        .map_err(|e| with_path(e, "new user namespace for", path))?;
    bind(&holder.file("net"), path)
}

/// The file on which a namespace is to be mounted.
fn make_place(path: &Path) -> io::Result<()> {
    if exists(path) {
        return Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is a namespace", path.display()),
        ));
    }
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(|e| with_path(e, "create folder", dir))?;
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(|e| with_path(e, "create", path))?;
    file.set_permissions(PermissionsExt::from_mode(0o444))
}

fn bind(namespace: &Path, path: &Path) -> io::Result<()> {
    mount(
        Some(namespace),
        path,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .map_err(|e| with_path(e.into(), "mount namespace on", path))
}

/// Opens the namespace that is mounted on `path`. `InvalidInput` if what lies
/// there is not a namespace, as after a reboot.
pub fn open(path: &Path) -> io::Result<OwnedFd> {
    let file = File::open(path).map_err(|e| with_path(e, "open namespace", path))?;
    if !exists(path) {
        let text = format!("{} is not a namespace", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    Ok(file.into())
}

/// The namespace that the calling thread is in.
pub fn current() -> io::Result<OwnedFd> {
    Ok(File::open(CURRENT)
        .map_err(|e| with_path(e, "open", Path::new(CURRENT)))?
        .into())
}

/// Whether a namespace is mounted on `path`.
pub fn exists(path: &Path) -> bool {
    statfs(path).is_ok_and(|s| s.filesystem_type() == NSFS_MAGIC)
}

/// Moves the calling thread into `namespace` for good. Threads that it starts
/// afterwards are born there.
pub fn enter(namespace: impl AsFd) -> io::Result<()> {
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

/// Runs `work` inside `namespace` on the calling thread and comes back, also
/// when `work` panics.
///
/// `work` must not await or hand its task to another thread: sockets keep the
/// namespace they were made in, threads keep the one they are in.
///
/// # Panics
/// Aborts the process if the thread cannot return to its namespace: going on
/// would make later sockets appear in a pod.
pub fn with<R>(namespace: impl AsFd, work: impl FnOnce() -> R) -> io::Result<R> {
    let home = current()?;
    enter(namespace)?;
    let _back = ReturnTo(&home);
    Ok(work())
}

/// Runs `work` on a thread of its own in fresh network and mount namespaces,
/// which end with it and with the threads it started: nothing that it does to
/// links, rules or mounts is seen outside. Loopback is up.
///
/// `PermissionDenied` without the rights of root.
pub fn isolated<R: Send>(work: impl FnOnce() -> R + Send) -> io::Result<R> {
    let inside = || -> io::Result<R> {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS)?;
        mount(
            None::<&str>,
            "/",
            None::<&str>,
            MsFlags::MS_REC | MsFlags::MS_PRIVATE,
            None::<&str>,
        )?;
        crate::link::Routing::open()?.set_up(LOOPBACK)?;
        Ok(work())
    };
    std::thread::scope(|scope| match scope.spawn(inside).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Unmounts and removes `path`. The namespace itself ends when the last
/// socket and thread in it are gone. Nothing there is not an error.
pub fn delete(path: &Path) -> io::Result<()> {
    loop {
        match umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            // Several mounts may lie upon each other after an interrupted start.
            Ok(()) => continue,
            Err(Errno::EINVAL | Errno::ENOENT) => break,
            Err(e) => return Err(with_path(e.into(), "unmount", path)),
        }
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(with_path(e, "remove", path)),
        _ => Ok(()),
    }
}

/// Takes the thread back when dropped.
struct ReturnTo<'a>(&'a OwnedFd);

impl Drop for ReturnTo<'_> {
    fn drop(&mut self) {
        if let Err(e) = setns(self.0, CloneFlags::CLONE_NEWNET) {
            eprintln!("cannot return to the network namespace: {e}");
            std::process::abort();
        }
    }
}

fn with_path(error: io::Error, what: &str, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::as_root;

    #[test]
    fn a_namespace_is_held_visited_and_removed() {
        as_root(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("netns/one");
            let made = create(&path).unwrap();
            assert!(exists(&path));
            assert_eq!(create(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            let inside = with(open(&path).unwrap(), || inode(&current().unwrap())).unwrap();
            assert_eq!(inside, inode(&made));
            assert_ne!(inode(&current().unwrap()), inode(&made));
            delete(&path).unwrap();
            delete(&path).unwrap();
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_panic_inside_brings_the_thread_back() {
        as_root(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("two");
            let namespace = create(&path).unwrap();
            let home = inode(&current().unwrap());
            let caught = std::panic::catch_unwind(|| with(&namespace, || panic!("expected")));
            assert!(caught.is_err());
            assert_eq!(inode(&current().unwrap()), home);
            delete(&path).unwrap();
        });
    }

    #[test]
    fn a_file_left_from_before_a_reboot_is_no_namespace() {
        as_root(|| {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("three");
            std::fs::write(&path, "").unwrap();
            assert_eq!(open(&path).unwrap_err().kind(), io::ErrorKind::InvalidInput);
            create(&path).unwrap();
            delete(&path).unwrap();
        });
    }

    fn inode(namespace: &OwnedFd) -> u64 {
        nix::sys::stat::fstat(namespace).unwrap().st_ino
    }
}
