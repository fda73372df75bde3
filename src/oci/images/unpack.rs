//! Unpacks a layer's archive for overlayfs.
//!
//! The archive comes from strangers. Every parent folder is opened with
//! `RESOLVE_IN_ROOT`, so that neither `..` nor a symbolic link in the archive
//! leads out of the layer, and the last part of a name is never followed.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, fchownat, linkat, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType};

use super::ImageError;

/// Most bytes that one layer may unpack to; a small archive that claims more is a bomb.
const BYTES_MAX: u64 = 64 << 30;
/// Most entries of one layer.
const ENTRIES_MAX: u64 = 4_000_000;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

fn refuse(path: &Path, why: impl std::fmt::Display) -> ImageError {
    ImageError::Unusable(format!("layer entry {:?}: {why}", path.display().to_string()))
}

/// Unpacks `reader` into the empty folder `root`.
///
/// # Errors
/// When the archive is damaged, tries to leave the folder, or is too large.
pub(super) fn unpack(reader: &mut impl Read, root: &Path) -> Result<(), ImageError> {
    let root = Root::open(root)?;
    let mut archive = Archive::new(reader);
    let broken = |error: std::io::Error| ImageError::Unusable(format!("damaged layer: {error}"));
    let (mut bytes, mut entries) = (0u64, 0u64);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(broken)? {
        let mut entry = entry.map_err(broken)?;
        bytes = bytes.saturating_add(entry.size());
        entries += 1;
        if bytes > BYTES_MAX || entries > ENTRIES_MAX {
            return Err(ImageError::Unusable(format!(
                "layer unpacks to more than {BYTES_MAX} bytes or {ENTRIES_MAX} entries"
            )));
        }
        root.place(&mut entry, &mut folders)?;
    }
    // Times of folders last, as filling them changed those.
    for (path, seconds) in folders.into_iter().rev() {
        if let Ok((parent, name)) = root.parent(&path) {
            set_time(&parent, &name, seconds);
        }
    }
    Ok(())
}

/// A name within the layer: no `..`, no leading slash.
fn clean(path: &Path) -> Result<PathBuf, ImageError> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(name) => clean.push(name),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(refuse(path, "leaves the layer")),
        }
    }
    Ok(clean)
}

struct Root(OwnedFd);

impl Root {
    fn open(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
        openat(AT_FDCWD, path, flags, Mode::empty())
            .map(Root)
            .map_err(|error| refuse(path, error))
    }

    /// Opens the folder that holds `path`, making what is missing, and gives the last part of the name.
    fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString), ImageError> {
        let name = path
            .file_name()
            .ok_or_else(|| refuse(path, "has no name"))?
            .to_owned();
        let folder = path.parent().unwrap_or(Path::new(""));
        match self.folder(folder) {
            Ok(fd) => Ok((fd, name)),
            Err(Errno::ENOENT) => {
                let (above, last) = self.parent(folder)?;
                match mkdirat(&above, last.as_os_str(), Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(refuse(folder, error)),
                }
                self.folder(folder)
                    .map(|fd| (fd, name))
                    .map_err(|error| refuse(folder, error))
            }
            Err(error) => Err(refuse(folder, error)),
        }
    }

    fn folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let how = OpenHow::new()
            .flags(OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.0, path, how)
    }

    fn place<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        folders: &mut Vec<(PathBuf, i64)>,
    ) -> Result<(), ImageError> {
        let raw = PathBuf::from(OsString::from_vec(entry.path_bytes().into_owned()));
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = clean(&raw)?;
        if path.as_os_str().is_empty() {
            return Ok(());
        }
        let (parent, name) = self.parent(&path)?;
        if name.as_bytes() == OPAQUE {
            return mark_opaque(&parent).map_err(|error| refuse(&path, error));
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return whiteout(&parent, OsStr::from_bytes(hidden)).map_err(|error| refuse(&path, error));
        }
        self.make(entry, kind, &path, &parent, &name)?;
        finish(entry, kind, &path, &parent, &name)?;
        if kind == EntryType::Directory {
            folders.push((path, mtime(entry)));
        }
        Ok(())
    }

    fn make<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> Result<(), ImageError> {
        if kind == EntryType::Directory {
            return match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
                Ok(()) => Ok(()),
                Err(Errno::EEXIST) => {
                    replace_unless_folder(parent, name).map_err(|error| refuse(path, error))
                }
                Err(error) => Err(refuse(path, error)),
            };
        }
        // A later entry of the same name wins, as in any archive.
        remove_existing(parent, name);
        let done = match kind {
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                return write_file(entry, path, parent, name);
            }
            EntryType::Symlink => {
                let target = link_target(entry, path)?;
                symlinkat(target.as_os_str(), parent, name)
            }
            EntryType::Link => {
                let target = clean(&link_target(entry, path)?)?;
                let (from, from_name) = self.parent(&target)?;
                linkat(&from, from_name.as_os_str(), parent, name, LinkatFlags::empty())
            }
            EntryType::Char => node(entry, parent, name, SFlag::S_IFCHR),
            EntryType::Block => node(entry, parent, name, SFlag::S_IFBLK),
            EntryType::Fifo => mknodat(parent, name, SFlag::S_IFIFO, Mode::from_bits_truncate(0o644), 0),
            other => return Err(refuse(path, format!("unknown type {other:?}"))),
        };
        done.map_err(|error| refuse(path, error))
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, ImageError> {
    let target = entry
        .link_name_bytes()
        .ok_or_else(|| refuse(path, "link without a target"))?;
    Ok(PathBuf::from(OsString::from_vec(target.into_owned())))
}

fn node<R: Read>(entry: &Entry<'_, R>, parent: &OwnedFd, name: &OsStr, kind: SFlag) -> nix::Result<()> {
    let header = entry.header();
    let number = |part: std::io::Result<Option<u32>>| u64::from(part.ok().flatten().unwrap_or(0));
    let device = nix::sys::stat::makedev(number(header.device_major()), number(header.device_minor()));
    mknodat(parent, name, kind, Mode::from_bits_truncate(0o644), device)
}

fn write_file<R: Read>(
    entry: &mut Entry<'_, R>,
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
) -> Result<(), ImageError> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd =
        openat(parent, name, flags, Mode::from_bits_truncate(0o600)).map_err(|error| refuse(path, error))?;
    let mut file = File::from(fd);
    std::io::copy(entry, &mut file).map_err(|error| refuse(path, error))?;
    Ok(())
}

/// Owner, mode, extended attributes, time.
fn finish<R: Read>(
    entry: &mut Entry<'_, R>,
    kind: EntryType,
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
) -> Result<(), ImageError> {
    if kind == EntryType::Link {
        return Ok(());
    }
    let header = entry.header();
    let id = |value: std::io::Result<u64>| u32::try_from(value.unwrap_or(0)).unwrap_or(0);
    let owner = Some(Uid::from_raw(id(header.uid())));
    let group = Some(Gid::from_raw(id(header.gid())));
    match fchownat(parent, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW) {
        // Without root, files keep the owner who unpacks them, as for any archive.
        Ok(()) | Err(Errno::EPERM) => {}
        Err(error) => return Err(refuse(path, error)),
    }
    if kind != EntryType::Symlink {
        let mode = Mode::from_bits_truncate(header.mode().unwrap_or(0o644) & 0o7777);
        // Nobody else writes here, and what is there is not a link, so following is harmless.
        let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
        fchmodat(parent, name, mode, follow).map_err(|error| refuse(path, error))?;
    }
    let seconds = mtime(entry);
    set_attributes(entry, path, parent, name)?;
    set_time(parent, name, seconds);
    Ok(())
}

fn mtime<R: Read>(entry: &Entry<'_, R>) -> i64 {
    i64::try_from(entry.header().mtime().unwrap_or(0)).unwrap_or(0)
}

/// A time that cannot be set changes nothing that a program needs.
fn set_time(parent: &OwnedFd, name: &OsStr, seconds: i64) {
    let time = TimeSpec::new(seconds, 0);
    let _ = utimensat(parent, name, &time, &time, UtimensatFlags::NoFollowSymlink);
}

/// The path of an open folder's child, for calls that take only paths.
fn path_in(parent: &OwnedFd, name: &OsStr) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", parent.as_raw_fd())).join(name)
}

/// Extended attributes in pax headers (`SCHILY.xattr.NAME`), such as file capabilities.
/// Those that steer overlayfs are never taken from an archive.
fn set_attributes<R: Read>(
    entry: &mut Entry<'_, R>,
    path: &Path,
    parent: &OwnedFd,
    name: &OsStr,
) -> Result<(), ImageError> {
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return Ok(());
    };
    for extension in extensions {
        let extension = extension.map_err(|error| refuse(path, error))?;
        let Some(key) = extension
            .key()
            .ok()
            .and_then(|key| key.strip_prefix("SCHILY.xattr."))
        else {
            continue;
        };
        if key.starts_with("trusted.overlay.") || key.starts_with("user.overlay.") {
            continue;
        }
        if let Err(error) = xattr::set(path_in(parent, name), key, extension.value_bytes())
            && key.starts_with("security.capability")
        {
            return Err(refuse(path, error));
        }
    }
    Ok(())
}

/// Overlayfs hides what lies below a character device 0/0.
fn whiteout(parent: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    remove_existing(parent, name);
    mknodat(parent, name, SFlag::S_IFCHR, Mode::empty(), 0)
}

/// Overlayfs hides all of the lower folders where this attribute is set.
fn mark_opaque(parent: &OwnedFd) -> std::io::Result<()> {
    let path = CString::new(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd()))?;
    xattr::set_deref(OsStr::from_bytes(path.as_bytes()), "trusted.overlay.opaque", b"y")
}

fn replace_unless_folder(parent: &OwnedFd, name: &OsStr) -> nix::Result<()> {
    let found = nix::sys::stat::fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
        return Ok(());
    }
    remove_existing(parent, name);
    mkdirat(parent, name, Mode::from_bits_truncate(0o755))
}

/// Removes what an earlier entry of the same archive put there; what stays makes the next step fail.
fn remove_existing(parent: &OwnedFd, name: &OsStr) {
    use nix::unistd::UnlinkatFlags::{NoRemoveDir, RemoveDir};
    if unlinkat(parent, name, NoRemoveDir) == Err(Errno::EISDIR) && unlinkat(parent, name, RemoveDir).is_err()
    {
        let _ = fs::remove_dir_all(path_in(parent, name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tar::{Builder, Header};

    fn archive(build: impl FnOnce(&mut Builder<Vec<u8>>)) -> Vec<u8> {
        let mut builder = Builder::new(Vec::new());
        build(&mut builder);
        builder.into_inner().unwrap()
    }

    /// Adds an entry with a name as hostile as wished, which the builder's own methods would refuse.
    fn add(builder: &mut Builder<Vec<u8>>, kind: EntryType, name: &str, link: &str, content: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_size(content.len() as u64);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }

    fn try_unpack(bytes: &[u8]) -> (tempfile::TempDir, Result<(), ImageError>) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let result = unpack(&mut &bytes[..], &root);
        (dir, result)
    }

    #[test]
    fn files_folders_and_links_arrive() {
        let bytes = archive(|b| {
            add(b, EntryType::Directory, "bin/", "", b"");
            add(b, EntryType::Regular, "bin/sh", "", b"shell");
            add(b, EntryType::Symlink, "sh", "/bin/sh", b"");
            add(b, EntryType::Link, "hard", "bin/sh", b"");
            add(b, EntryType::Regular, "deep/below/file", "", b"x");
        });
        let (dir, result) = try_unpack(&bytes);
        result.unwrap();
        let root = dir.path().join("root");
        assert_eq!(fs::read(root.join("bin/sh")).unwrap(), b"shell");
        assert_eq!(fs::read(root.join("hard")).unwrap(), b"shell");
        assert_eq!(fs::read_link(root.join("sh")).unwrap(), Path::new("/bin/sh"));
        assert!(root.join("deep/below/file").is_file());
    }

    #[test]
    fn nothing_escapes() {
        let (dir, result) = try_unpack(&archive(|b| add(b, EntryType::Regular, "../evil", "", b"x")));
        assert!(result.unwrap_err().to_string().contains("leaves the layer"));
        assert!(!dir.path().join("evil").exists());

        // A link out of the layer leads to its root instead.
        let (dir, result) = try_unpack(&archive(|b| {
            add(b, EntryType::Symlink, "out", "/", b"");
            add(b, EntryType::Regular, "out/evil", "", b"x");
        }));
        result.unwrap();
        assert!(dir.path().join("root/evil").is_file());
        assert!(!Path::new("/evil").exists());

        let (_dir, result) = try_unpack(&archive(|b| {
            add(b, EntryType::Link, "hard", "../../etc/passwd", b"")
        }));
        assert!(result.is_err());
    }

    #[test]
    fn a_cut_archive_is_refused() {
        let bytes = archive(|b| add(b, EntryType::Regular, "file", "", &[7; 4096]));
        let (_dir, result) = try_unpack(&bytes[..1024]);
        assert!(result.is_err());
    }

    #[test]
    fn whiteouts_become_what_overlayfs_reads() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: making device nodes needs root");
            assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
            return;
        }
        let bytes = archive(|b| {
            add(b, EntryType::Regular, "dir/.wh.gone", "", b"");
            add(b, EntryType::Regular, "all/.wh..wh..opq", "", b"");
        });
        let (dir, result) = try_unpack(&bytes);
        result.unwrap();
        let root = dir.path().join("root");
        use std::os::unix::fs::{FileTypeExt, MetadataExt};
        let meta = fs::symlink_metadata(root.join("dir/gone")).unwrap();
        assert!(meta.file_type().is_char_device());
        assert_eq!(meta.rdev(), 0);
        let opaque = xattr::get(root.join("all"), "trusted.overlay.opaque").unwrap();
        assert_eq!(opaque.as_deref(), Some(&b"y"[..]));
    }
}
