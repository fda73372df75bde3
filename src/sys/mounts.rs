//! Mounts: what is mounted where, and trees of mounts that are taken from one namespace into another.

use std::ffi::{CString, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// A mount, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub at: PathBuf,
    /// What is mounted below it shows in its peers, and the other way round.
    pub shared: bool,
    /// What is mounted below its master shows here.
    pub slave: bool,
}

/// The mount namespace of the calling thread.
///
/// # Errors
/// The kernel's.
pub fn current() -> io::Result<OwnedFd> {
    Ok(fs::File::open("/proc/thread-self/ns/mnt")?.into())
}

/// Does `work` in another mount namespace and comes back. Only for a process of one thread, or one that shares its
/// root and working folder with no other: both are the namespace's root afterwards, and again after the way back.
///
/// # Errors
/// The kernel's.
///
/// # Panics
/// Aborts the process if there is no way back: all it did from then on would be done to somebody else's files.
pub fn with<R>(namespace: impl AsFd, work: impl FnOnce() -> R) -> io::Result<R> {
    let _back = Back(current()?);
    setns(namespace, CloneFlags::CLONE_NEWNS)?;
    Ok(work())
}

/// The way back to where one came from.
struct Back(OwnedFd);

impl Drop for Back {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.0, CloneFlags::CLONE_NEWNS) {
            eprintln!("no way back into this process' mount namespace: {error}");
            std::process::abort();
        }
    }
}

/// Copies the mount of what was opened, from there on, and all that is mounted below. The copies are mounted nowhere
/// yet; those of shared mounts are their peers.
///
/// # Errors
/// The kernel's.
pub fn copy(from: impl AsFd) -> io::Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE
        | libc::OPEN_TREE_CLOEXEC
        | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE) as libc::c_uint;
    let empty = c"".as_ptr();
    // SAFETY: the descriptor is open, the path a literal that ends in NUL.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, from.as_fd().as_raw_fd(), empty, flags) };
    let tree = i32::try_from(Errno::result(tree)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just opened it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(tree) })
}

/// Mounts what was [copied](copy).
///
/// # Errors
/// The kernel's.
pub fn attach(tree: &OwnedFd, place: &Path) -> io::Result<()> {
    let place = CString::new(place.as_os_str().as_bytes())?;
    // SAFETY: both paths end in NUL and live on.
    let moved = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            place.as_ptr(),
            libc::MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    Errno::result(moved)?;
    Ok(())
}

/// The mount that something opened is on.
///
/// # Errors
/// The kernel's, and `NotFound` for one that this namespace does not show.
pub fn of(opened: &OwnedFd) -> io::Result<Mounted> {
    let about = fs::read_to_string(format!("/proc/thread-self/fdinfo/{}", opened.as_raw_fd()))?;
    let id = about.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    let id = id.map(str::trim).unwrap_or_default();
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let line = table
        .lines()
        .find(|line| line.split(' ').next() == Some(id))
        .and_then(parse);
    line.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "its mount is not listed"))
}

/// Where something is mounted below a folder, the deepest first.
///
/// # Errors
/// The kernel's.
pub fn below(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/thread-self/mountinfo")?;
    let all = table.lines().filter_map(parse).map(|mounted| mounted.at);
    let mut found: Vec<PathBuf> = all.filter(|at| at.starts_with(folder)).collect();
    found.sort();
    found.reverse();
    Ok(found)
}

/// A line of `mountinfo`: ids, device, root, place, options, then marks such as `shared:7` up to a dash.
fn parse(line: &str) -> Option<Mounted> {
    let mut words = line.split(' ');
    let at = words.nth(4)?;
    let marks: Vec<&str> = words.skip(1).take_while(|word| *word != "-").collect();
    let marked = |mark: &str| marks.iter().any(|word| word.starts_with(mark));
    Some(Mounted {
        at: unescape(at),
        shared: marked("shared:"),
        slave: marked("master:"),
    })
}

/// Spaces and the like stand as a backslash and three octal digits.
fn unescape(text: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..3).filter(|_| *first == b'\\');
        let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use nix::mount::{MsFlags, mount, umount2};
    use nix::sched::unshare;

    use super::*;
    use crate::testing::as_root;

    #[test]
    fn lines_say_where_and_to_whom_mounts_show() {
        let line = "36 35 98:0 /m /mnt\\0402 rw,noatime master:1 - ext3 /dev/root rw";
        let expected = Mounted {
            at: "/mnt 2".into(),
            shared: false,
            slave: true,
        };
        assert_eq!(parse(line), Some(expected));
        assert!(parse("1 0 0:1 / / rw shared:3 - tmpfs t rw").unwrap().shared);
        assert_eq!(parse("36 35"), None);
    }

    fn change(place: &Path, flags: MsFlags) {
        mount(None::<&str>, place, None::<&str>, flags, None::<&str>).unwrap();
    }

    fn tmpfs(place: &Path) {
        mount(Some("t"), place, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    }

    #[test]
    fn a_copy_from_another_namespace_is_a_peer() {
        as_root(|| {
            let work = || {
                let temp = tempfile::tempdir().unwrap();
                let (theirs, ours) = (temp.path().join("theirs"), temp.path().join("ours"));
                fs::create_dir(&theirs).unwrap();
                fs::create_dir(&ours).unwrap();
                tmpfs(&theirs);
                change(&theirs, MsFlags::MS_SHARED);
                fs::create_dir(theirs.join("in")).unwrap();
                let home = current().unwrap();
                unshare(CloneFlags::CLONE_NEWNS).unwrap();
                change(Path::new("/"), MsFlags::MS_REC | MsFlags::MS_SLAVE);
                let taken = with(&home, || {
                    let opened = crate::beneath::open(&theirs, Path::new(""))?;
                    assert!(of(&opened)?.shared);
                    copy(opened)
                });
                attach(&taken.unwrap().unwrap(), &ours).unwrap();
                // What is mounted there shows in the other namespace, and in no other place of this one's own.
                tmpfs(&ours.join("in"));
                let seen = || below(&theirs).unwrap();
                assert_eq!(with(&home, seen).unwrap(), [theirs.join("in"), theirs.clone()]);
                umount2(&ours.join("in"), nix::mount::MntFlags::empty()).unwrap();
                assert_eq!(with(&home, seen).unwrap(), std::slice::from_ref(&theirs));
            };
            crate::netns::isolated(work).unwrap();
        });
    }
}
