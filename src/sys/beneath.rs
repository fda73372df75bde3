//! Paths below a folder that others may change while they are looked up: what is opened is below it, whatever
//! links are planted on the way, and stays what it was.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::linkat;

/// How often a look-up that somebody's renaming disturbed is tried again.
const TRIES: usize = 16;

/// Opens what `relative` leads to below `root`, without reading or writing it (`O_PATH`). Links are followed as
/// long as they stay below; an empty path is `root` itself.
///
/// # Errors
/// `EXDEV` where it leads out, and whatever else the kernel says.
pub fn open(root: &Path, relative: &Path) -> io::Result<OwnedFd> {
    if relative.as_os_str().is_empty() {
        return Ok(openat(
            AT_FDCWD,
            root,
            OFlag::O_PATH | OFlag::O_CLOEXEC,
            Mode::empty(),
        )?);
    }
    Ok(look_up(&folder(root)?, relative)?)
}

/// Opens it as [`open`] does; folders that are missing are made, for whoever may use `root`.
///
/// # Errors
/// As [`open`], and for a path that is not relative or goes upwards.
pub fn open_or_make(root: &Path, relative: &Path) -> io::Result<OwnedFd> {
    let root = folder(root)?;
    let mut path = PathBuf::new();
    let mut at = look_up(&root, &path)?;
    for part in relative.components() {
        match part {
            Component::Normal(part) => path.push(part),
            Component::CurDir => continue,
            _ => return Err(Errno::EINVAL.into()),
        }
        at = match look_up(&root, &path) {
            Err(Errno::ENOENT) => make(&root, &at, part.as_os_str())?,
            found => found?,
        };
    }
    Ok(at)
}

/// A path that leads to what was opened, as long as it is open, and to nothing else.
pub fn path_of(opened: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", opened.as_raw_fd()).into()
}

/// Gives an opened file a second name.
///
/// # Errors
/// The kernel's, such as for a name on another file system.
pub fn link(opened: &OwnedFd, name: &Path) -> io::Result<()> {
    let from = path_of(opened);
    Ok(linkat(
        AT_FDCWD,
        &from,
        AT_FDCWD,
        name,
        AtFlags::AT_SYMLINK_FOLLOW,
    )?)
}

fn folder(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(openat(AT_FDCWD, path, flags, Mode::empty())?)
}

fn look_up(root: &OwnedFd, relative: &Path) -> Result<OwnedFd, Errno> {
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    for _ in 1..TRIES {
        match openat2(root, relative, how) {
            Err(Errno::EAGAIN) => {}
            found => return found,
        }
    }
    openat2(root, relative, how)
}

/// Makes a folder in one that is open, with the group and the rights of `like`.
fn make(like: &OwnedFd, parent: &OwnedFd, name: &std::ffi::OsStr) -> io::Result<OwnedFd> {
    mkdirat(parent, name, Mode::S_IRWXU)?;
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let made = fs::File::from(openat(parent, name, flags, Mode::empty())?);
    let like = fs::metadata(path_of(like))?;
    std::os::unix::fs::fchown(made.as_fd(), None, Some(like.gid()))?;
    made.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    Ok(made.into())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn links_may_not_lead_out() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("v");
        fs::create_dir_all(root.join("real")).unwrap();
        fs::write(temp.path().join("secret"), "").unwrap();
        for (name, to) in [
            ("evil", "/etc"),
            ("up", ".."),
            ("good", "real"),
            ("proc", "/proc/self/root"),
        ] {
            symlink(to, root.join(name)).unwrap();
        }
        let lead = |path: &str| {
            let opened = open_or_make(&root, Path::new(path))?;
            fs::read_link(path_of(&opened))
        };
        let real = root.canonicalize().unwrap();
        assert_eq!(lead("good").unwrap(), real.join("real"));
        assert_eq!(lead("good/new/deep").unwrap(), real.join("real/new/deep"));
        assert_eq!(lead("").unwrap(), real);
        for bad in [
            "../secret",
            "/etc",
            "evil",
            "evil/passwd",
            "up",
            "up/secret",
            "proc/etc",
            "real/../../secret",
        ] {
            assert!(lead(bad).is_err(), "{bad}");
            assert!(open(&root, Path::new(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn folders_are_made_for_whoever_may_use_the_volume() {
        let temp = tempfile::tempdir().unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o777)).unwrap();
        open_or_make(temp.path(), Path::new("a/b")).unwrap();
        let mode = fs::metadata(temp.path().join("a/b")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o777);
    }

    #[test]
    fn nobody_who_swaps_a_folder_for_a_link_leads_anybody_out() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap().join("v");
        fs::create_dir_all(root.join("sub")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (folder, aside) = (root.join("sub"), root.join("aside"));
                while !done.load(Ordering::Relaxed) {
                    let _ = fs::rename(&folder, &aside);
                    let _ = symlink("/", &folder);
                    let _ = fs::remove_file(&folder);
                    let _ = fs::rename(&aside, &folder);
                }
            });
            for _ in 0..3000 {
                if let Ok(opened) = open_or_make(&root, Path::new("sub/etc")) {
                    let led = fs::read_link(path_of(&opened)).unwrap();
                    assert!(led.starts_with(&root), "{}", led.display());
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn an_opened_file_gets_a_second_name() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("a"), "text").unwrap();
        let opened = open(temp.path(), Path::new("a")).unwrap();
        link(&opened, &temp.path().join("b")).unwrap();
        assert_eq!(fs::read_to_string(temp.path().join("b")).unwrap(), "text");
    }
}
