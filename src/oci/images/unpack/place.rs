//! Puts the entries of a layer's archive into its folder.
//!
//! Every parent folder is opened with `RESOLVE_IN_ROOT`, so that neither `..`
//! nor a symbolic link in the archive leads out of the layer, and the last
//! part of a name is never followed.

use std::ffi::{CString, OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{Mode, SFlag, UtimensatFlags, fchmodat, mkdirat, mknodat, utimensat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, fchownat, linkat, symlinkat, unlinkat};
use tar::{Entry, EntryType};

use super::names::{clean, damaged, refuse};
use crate::images::ImageError;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// Where an entry goes.
struct Spot {
    path: PathBuf,
    parent: Rc<OwnedFd>,
    name: OsString,
}

/// The layer's folder, filled entry by entry.
pub(super) struct Root {
    fd: OwnedFd,
    path: PathBuf,
    /// Folders and their times, set last since filling the folders changes them.
    folders: Vec<(PathBuf, i64)>,
    /// The folder of the last entry: the next one is mostly there too.
    last: Option<(PathBuf, Rc<OwnedFd>)>,
}

impl Root {
    pub(super) fn open(path: &Path) -> Result<Self, ImageError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC;
        let fd = openat(AT_FDCWD, path, flags, Mode::empty()).map_err(|error| refuse(path, error))?;
        Ok(Root {
            fd,
            path: path.to_owned(),
            folders: Vec::new(),
            last: None,
        })
    }

    /// Places one entry, whose cleaned name is `path`.
    pub(super) fn entry<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        path: PathBuf,
        buffer: &mut [u8],
    ) -> Result<(), ImageError> {
        let (parent, name) = self.parent(&path)?;
        let spot = Spot { path, parent, name };
        if spot.name.as_bytes() == OPAQUE {
            return mark_opaque(&spot.parent).map_err(|error| self.failed(&spot.path, error));
        }
        if let Some(hidden) = spot.name.as_bytes().strip_prefix(WHITEOUT) {
            return self.whiteout(&spot, OsStr::from_bytes(hidden));
        }
        let kind = entry.header().entry_type();
        self.make(entry, kind, &spot, buffer)?;
        if kind == EntryType::Link {
            return Ok(());
        }
        self.dress(entry, kind, &spot)?;
        if kind == EntryType::Directory {
            self.folders.push((spot.path, mtime(entry)));
        }
        Ok(())
    }

    /// Sets the folders' times.
    pub(super) fn finish(mut self) {
        for (path, seconds) in std::mem::take(&mut self.folders).into_iter().rev() {
            if let Ok((parent, name)) = self.parent(&path) {
                set_time(&parent, &name, seconds);
            }
        }
    }

    /// Opens the folder that holds `path`, making what is missing, and gives the last part of the name.
    fn parent(&mut self, path: &Path) -> Result<(Rc<OwnedFd>, OsString), ImageError> {
        let name = path
            .file_name()
            .ok_or_else(|| refuse(path, "has no name"))?
            .to_owned();
        let folder = path.parent().unwrap_or(Path::new(""));
        if let Some((last, fd)) = &self.last
            && last == folder
        {
            return Ok((fd.clone(), name));
        }
        let fd = match self.open_folder(folder) {
            Err(Errno::ENOENT) => {
                let (above, last) = self.parent(folder)?;
                match mkdirat(&*above, last.as_os_str(), Mode::from_bits_truncate(0o755)) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(error) => return Err(self.failed(folder, error.into())),
                }
                self.open_folder(folder)
            }
            opened => opened,
        };
        let fd = Rc::new(fd.map_err(|error| self.failed(folder, error.into()))?);
        self.last = Some((folder.to_owned(), fd.clone()));
        Ok((fd, name))
    }

    fn open_folder(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let path = if path.as_os_str().is_empty() {
            Path::new(".")
        } else {
            path
        };
        let how = OpenHow::new()
            .flags(OFlag::O_DIRECTORY | OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(&self.fd, path, how)
    }

    fn make<R: Read>(
        &mut self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        spot: &Spot,
        buffer: &mut [u8],
    ) -> Result<(), ImageError> {
        let failed = |error: io::Error| self.failed(&spot.path, error);
        let target = match kind {
            EntryType::Symlink => Some(link_target(entry, &spot.path)?),
            EntryType::Link => Some(clean(&link_target(entry, &spot.path)?)?),
            _ => None,
        };
        if kind == EntryType::Link {
            let (from, from_name) = self.parent(target.as_deref().unwrap_or(Path::new("")))?;
            let link = || {
                linkat(
                    &*from,
                    from_name.as_os_str(),
                    &*spot.parent,
                    spot.name.as_os_str(),
                    LinkatFlags::empty(),
                )
            };
            return self.replacing(spot, link).map(drop);
        }
        if kind == EntryType::Regular || kind == EntryType::Continuous || kind == EntryType::GNUSparse {
            let flags =
                OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let mode = Mode::from_bits_truncate(0o600);
            let fd = self.replacing(spot, || openat(&*spot.parent, spot.name.as_os_str(), flags, mode))?;
            return copy(entry, File::from(fd), buffer).map_err(|error| self.failed(&spot.path, error));
        }
        let mode = Mode::from_bits_truncate(0o644);
        let node = |kind, device| mknodat(&*spot.parent, spot.name.as_os_str(), kind, mode, device);
        match kind {
            EntryType::Directory => {
                if let Err(error) = mkdirat(
                    &*spot.parent,
                    spot.name.as_os_str(),
                    Mode::from_bits_truncate(0o755),
                ) {
                    if error != Errno::EEXIST {
                        return Err(failed(error.into()));
                    }
                    self.keep_folder_only(spot)?;
                }
                Ok(())
            }
            EntryType::Symlink => {
                let target = target.unwrap_or_default();
                self.replacing(spot, || {
                    symlinkat(target.as_os_str(), &*spot.parent, spot.name.as_os_str())
                })
            }
            EntryType::Char => self.replacing(spot, || node(SFlag::S_IFCHR, device(entry))),
            EntryType::Block => self.replacing(spot, || node(SFlag::S_IFBLK, device(entry))),
            EntryType::Fifo => self.replacing(spot, || node(SFlag::S_IFIFO, 0)),
            other => Err(refuse(&spot.path, format!("unknown type {other:?}"))),
        }
    }

    /// Makes something; what an earlier entry of the same name has put there gives way, as in any archive.
    fn replacing<T>(&mut self, spot: &Spot, make: impl Fn() -> nix::Result<T>) -> Result<T, ImageError> {
        let made = match make() {
            Err(Errno::EEXIST) => {
                self.remove(&spot.parent, &spot.name);
                make()
            }
            made => made,
        };
        made.map_err(|error| self.failed(&spot.path, error.into()))
    }

    /// A folder may be there already; anything else of its name gives way.
    fn keep_folder_only(&mut self, spot: &Spot) -> Result<(), ImageError> {
        let found =
            nix::sys::stat::fstatat(&*spot.parent, spot.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        let found = found.map_err(|error| self.failed(&spot.path, error.into()))?;
        if SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFDIR {
            return Ok(());
        }
        let mode = Mode::from_bits_truncate(0o755);
        self.replacing(spot, || mkdirat(&*spot.parent, spot.name.as_os_str(), mode))
    }

    /// Overlayfs hides what lies below a character device 0/0.
    fn whiteout(&mut self, spot: &Spot, hidden: &OsStr) -> Result<(), ImageError> {
        // `.wh...` would name the folder above.
        if matches!(hidden.as_bytes(), b"" | b"." | b"..") {
            return Err(refuse(&spot.path, "hides no name of its folder"));
        }
        let make = || mknodat(&*spot.parent, hidden, SFlag::S_IFCHR, Mode::empty(), 0);
        let spot = Spot {
            path: spot.path.clone(),
            parent: spot.parent.clone(),
            name: hidden.to_owned(),
        };
        self.replacing(&spot, make)
    }

    /// Removes what an earlier entry of the same archive put there; what stays makes the next step fail.
    fn remove(&mut self, parent: &OwnedFd, name: &OsStr) {
        use nix::unistd::UnlinkatFlags::{NoRemoveDir, RemoveDir};
        // It may have been the folder that is remembered, or a link on the way to it.
        self.last = None;
        if unlinkat(parent, name, NoRemoveDir) == Err(Errno::EISDIR)
            && unlinkat(parent, name, RemoveDir).is_err()
        {
            let _ = fs::remove_dir_all(path_in(parent, name));
        }
    }

    /// Owner, mode, extended attributes, time.
    fn dress<R: Read>(
        &self,
        entry: &mut Entry<'_, R>,
        kind: EntryType,
        spot: &Spot,
    ) -> Result<(), ImageError> {
        let failed = |error: Errno| self.failed(&spot.path, error.into());
        let (parent, name) = (&*spot.parent, spot.name.as_os_str());
        let header = entry.header();
        let id = |value: io::Result<u64>| u32::try_from(value.unwrap_or(0)).unwrap_or(0);
        let owner = Some(Uid::from_raw(id(header.uid())));
        let group = Some(Gid::from_raw(id(header.gid())));
        match fchownat(parent, name, owner, group, AtFlags::AT_SYMLINK_NOFOLLOW) {
            // Without root, files keep the owner who unpacks them, as for any archive.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(error) => return Err(failed(error)),
        }
        if kind != EntryType::Symlink {
            let mode = Mode::from_bits_truncate(header.mode().unwrap_or(0o644) & 0o7777);
            // Nobody else writes here, and what is there is not a link, so following is harmless.
            let follow = nix::sys::stat::FchmodatFlags::FollowSymlink;
            fchmodat(parent, name, mode, follow).map_err(failed)?;
        }
        let seconds = mtime(entry);
        set_attributes(entry, spot)?;
        set_time(parent, name, seconds);
        Ok(())
    }

    fn failed(&self, path: &Path, error: io::Error) -> ImageError {
        if error.kind() == io::ErrorKind::StorageFull {
            return damaged(&self.path, error);
        }
        refuse(path, error)
    }
}

fn link_target<R: Read>(entry: &Entry<'_, R>, path: &Path) -> Result<PathBuf, ImageError> {
    let target = entry
        .link_name_bytes()
        .ok_or_else(|| refuse(path, "link without a target"))?;
    Ok(PathBuf::from(OsString::from_vec(target.into_owned())))
}

fn device<R: Read>(entry: &Entry<'_, R>) -> u64 {
    let header = entry.header();
    let number = |part: io::Result<Option<u32>>| u64::from(part.ok().flatten().unwrap_or(0));
    nix::sys::stat::makedev(number(header.device_major()), number(header.device_minor()))
}

fn copy<R: Read>(entry: &mut Entry<'_, R>, mut file: File, buffer: &mut [u8]) -> io::Result<()> {
    loop {
        let n = entry.read(buffer)?;
        let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        file.write_all(bytes)?;
    }
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
fn set_attributes<R: Read>(entry: &mut Entry<'_, R>, spot: &Spot) -> Result<(), ImageError> {
    let Ok(Some(extensions)) = entry.pax_extensions() else {
        return Ok(());
    };
    for extension in extensions {
        let extension = extension.map_err(|error| refuse(&spot.path, error))?;
        let key = extension
            .key()
            .ok()
            .and_then(|key| key.strip_prefix("SCHILY.xattr."));
        let Some(key) = key.filter(|key| !is_overlay(key)) else {
            continue;
        };
        if let Err(error) = xattr::set(path_in(&spot.parent, &spot.name), key, extension.value_bytes())
            && key.starts_with("security.capability")
        {
            return Err(refuse(&spot.path, error));
        }
    }
    Ok(())
}

fn is_overlay(key: &str) -> bool {
    key.starts_with("trusted.overlay.") || key.starts_with("user.overlay.")
}

/// Overlayfs hides all of the lower folders where this attribute is set.
fn mark_opaque(parent: &OwnedFd) -> io::Result<()> {
    let path = CString::new(format!("/proc/self/fd/{}", parent.as_fd().as_raw_fd()))?;
    xattr::set_deref(OsStr::from_bytes(path.as_bytes()), "trusted.overlay.opaque", b"y")
}
