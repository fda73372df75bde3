//! Folders and files of this machine that a guest may see.
//!
//! WASI knows folders only. A single file is therefore put, when the instance
//! starts, into a private folder that is shown in place of the file's: as a
//! copy where the guest may only read it, as a second name of the same file
//! where it may write, so that what it writes is seen outside.

use crate::{Mount, WasmError};
use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use wasmtime_wasi::{FsPerms, WasiCtxBuilder};

/// Folders to show, checked; keeps the private folders of single files.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    folders: Vec<Mount>,
    _copies: Vec<TempDir>,
    /// Parts of folders stay open, and are shown as what they were when they were opened: instances are made again
    /// and again, and whoever writes there could have made a link of one.
    parts: Vec<OwnedFd>,
}

impl Mounts {
    /// Checks the mounts and puts single files into folders below `scratch`. Blocks on
    /// the file system.
    pub(crate) fn prepare(wanted: &[Mount], scratch: &Path) -> Result<Mounts, WasmError> {
        let mut mounts = Mounts::default();
        let mut files: BTreeMap<&str, Vec<(&str, &Mount)>> = BTreeMap::new();
        for mount in wanted {
            if !mount.guest.starts_with('/') {
                return Err(refuse(mount, "the path in the container is not absolute"));
            }
            let path = mounts.open(mount).map_err(|error| refuse(mount, error))?;
            let kind = std::fs::metadata(&path).map_err(|error| refuse(mount, error))?;
            if kind.is_dir() {
                mounts.folders.push(Mount {
                    host: path,
                    ..mount.clone()
                });
                continue;
            }
            match mount.guest.rsplit_once('/') {
                Some((folder, name)) if !matches!(name, "" | "." | "..") => {
                    files.entry(folder).or_default().push((name, mount));
                }
                _ => return Err(refuse(mount, "the path in the container has no file name")),
            }
        }
        for (folder, files) in files {
            mounts.copy(folder, &files, scratch)?;
        }
        Ok(mounts)
    }

    /// A path that leads to what a mount means, now and later.
    fn open(&mut self, mount: &Mount) -> std::io::Result<PathBuf> {
        if mount.inside.as_os_str().is_empty() {
            return Ok(mount.host.clone());
        }
        let opened = sys::beneath::open(&mount.host, &mount.inside)?;
        let path = sys::beneath::path_of(&opened);
        self.parts.push(opened);
        Ok(path)
    }

    fn copy(&mut self, folder: &str, files: &[(&str, &Mount)], scratch: &Path) -> Result<(), WasmError> {
        let guest = if folder.is_empty() { "/" } else { folder };
        if let Some((_, mount)) = files.first()
            && self
                .folders
                .iter()
                .any(|other| other.guest.trim_end_matches('/') == folder)
        {
            return Err(refuse(mount, "a folder is mounted at the same place"));
        }
        let prefix = format!("{}-", std::process::id());
        let copies = std::fs::create_dir_all(scratch).and_then(|()| {
            let place = beside_writable(files, scratch);
            tempfile::Builder::new().prefix(&prefix).tempdir_in(place)
        });
        let copies = copies.map_err(|source| WasmError::Io {
            context: "copy mounted files".into(),
            source,
        })?;
        for (name, mount) in files {
            let place = copies.path().join(name);
            let opened = sys::beneath::open(&mount.host, &mount.inside);
            let placed = opened.and_then(|opened| match mount.read_only {
                true => std::fs::copy(sys::beneath::path_of(&opened), place).map(drop),
                false => sys::beneath::link(&opened, &place),
            });
            placed.map_err(|error| refuse(mount, error))?;
        }
        self.folders.push(Mount {
            inside: PathBuf::new(),
            host: copies.path().into(),
            guest: guest.into(),
            // What the guest writes beside the files goes with the private folder.
            read_only: files.iter().all(|(_, mount)| mount.read_only),
        });
        self._copies.push(copies);
        Ok(())
    }

    /// Shows the folders to a guest.
    pub(crate) fn attach(&self, builder: &mut WasiCtxBuilder) -> Result<(), WasmError> {
        for mount in &self.folders {
            let perms = if mount.read_only {
                FsPerms::ReadOnly
            } else {
                FsPerms::ReadWrite
            };
            let opened = builder.preopened_dir(&mount.host, &mount.guest, perms);
            opened.map_err(|error| refuse(mount, error.root_cause()))?;
        }
        Ok(())
    }

    /// Gives the guest's first descriptors to a folder that is there no more, in
    /// which nothing can be found or made: what they mean is settled elsewhere.
    pub(crate) fn reserve(builder: &mut WasiCtxBuilder, count: usize) -> Result<(), WasmError> {
        if count == 0 {
            return Ok(());
        }
        let failed = |source| WasmError::Io {
            context: "reserve descriptors".into(),
            source,
        };
        let gone = tempfile::tempdir().map_err(failed)?;
        for _ in 0..count {
            let opened = builder.preopened_dir(gone.path(), "", FsPerms::ReadOnly);
            opened.map_err(|error| failed(std::io::Error::other(error.to_string())))?;
        }
        Ok(())
    }

    #[cfg(test)]
    fn shown(&self) -> Vec<(std::path::PathBuf, String)> {
        self.folders
            .iter()
            .map(|mount| (mount.host.clone(), mount.guest.clone()))
            .collect()
    }
}

/// Where the private folder of these files is made: below `scratch`, or beside
/// the first that the guest may write if that lies on another file system, where
/// no second name of it can be.
fn beside_writable<'a>(files: &[(&str, &'a Mount)], scratch: &'a Path) -> &'a Path {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|found| found.dev());
    let writable = files.iter().find(|(_, mount)| !mount.read_only);
    let folder = |mount: &'a Mount| match mount.inside.as_os_str().is_empty() {
        true => mount.host.parent(),
        false => Some(mount.host.as_path()),
    };
    match writable.and_then(|(_, mount)| folder(mount)) {
        Some(folder) if device(folder) != device(scratch) => folder,
        _ => scratch,
    }
}

/// Removes copies that killed processes left behind, from a folder that is ours
/// alone.
pub(crate) fn sweep(scratch: &Path) {
    for entry in std::fs::read_dir(scratch).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let owner = name
            .to_str()
            .and_then(|name| name.split_once('-'))
            .map(|(pid, _)| pid);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn refuse(mount: &Mount, reason: impl ToString) -> WasmError {
    let host = Path::display(&mount.host).to_string();
    WasmError::Mount {
        host,
        guest: mount.guest.clone(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(host: PathBuf, guest: &str, read_only: bool) -> Mount {
        Mount {
            host,
            inside: PathBuf::new(),
            guest: guest.into(),
            read_only,
        }
    }

    #[test]
    fn single_files_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            std::fs::write(dir.path().join(name), name).unwrap();
        }
        let wanted = [
            mount(dir.path().join("a"), "/etc/one", true),
            mount(dir.path().join("b"), "/etc/two", true),
        ];
        let shown = Mounts::prepare(&wanted, &dir.path().join("copies")).unwrap();
        let [(host, guest)] = &shown.shown()[..] else {
            panic!("one folder expected")
        };
        assert_eq!(guest, "/etc");
        assert_eq!(std::fs::read_to_string(host.join("two")).unwrap(), "b");
    }

    #[test]
    fn what_is_written_to_a_writable_file_is_seen_outside() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("message");
        std::fs::write(&file, "").unwrap();
        let wanted = [mount(file.clone(), "/dev/termination-log", false)];
        let mounts = Mounts::prepare(&wanted, &dir.path().join("copies")).unwrap();
        std::fs::write(mounts.shown()[0].0.join("termination-log"), "last words").unwrap();
        assert_eq!(std::fs::read_to_string(file).unwrap(), "last words");
        assert!(!mounts.folders[0].read_only);
    }

    #[test]
    fn copies_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let own = dir.path().join(format!("{}-x", std::process::id()));
        // Process ids end far below this one.
        let dead = dir.path().join("99999999-x");
        for path in [&own, &dead] {
            std::fs::create_dir(path).unwrap();
        }
        sweep(dir.path());
        assert!(own.exists() && !dead.exists());
    }

    #[test]
    fn refusals_name_the_paths() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        std::fs::write(&file, "").unwrap();
        let refused = |mounts: &[Mount]| Mounts::prepare(mounts, dir.path()).unwrap_err().to_string();
        assert!(refused(&[mount("/does/not/exist".into(), "/x", true)]).contains("No such file"));
        assert!(refused(&[mount(dir.path().into(), "x", true)]).contains("not absolute"));
        assert!(refused(&[mount(file.clone(), "/..", true)]).contains("no file name"));
        let both = [mount(dir.path().into(), "/x/", true), mount(file, "/x/f", true)];
        assert!(refused(&both).contains("same place"));
    }
}
