//! Replaces the files of a volume all at once.
//!
//! ```text
//! volume/..2026_11_21_19_01_43.123456789/app.conf   the files
//! volume/..data -> ..2026_11_21_19_01_43.123456789  renamed over in one step
//! volume/app.conf -> ..data/app.conf                what programs open
//! ```
//! Readers see the old files or the new ones, never a mixture: the layout that
//! the kubelet's atomic writer gives, which programs that watch for changes
//! (of `..data`) rely on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

/// One file of a volume.
#[derive(Clone, PartialEq, Eq)]
pub struct File {
    /// What is in it; possibly secret (there is no `Debug`).
    pub bytes: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Owner, if not root.
    pub owner: Option<u32>,
}

/// The files of a volume by their relative path.
pub type Files = BTreeMap<String, File>;

const DATA: &str = "..data";
const DATA_NEXT: &str = "..data_tmp";

/// Makes `dir` show exactly `files`. Returns whether anything changed.
///
/// # Errors
/// The disk, or a path that leads out of the volume.
pub fn write(dir: &Path, files: &Files, group: Option<u32>, now: Timestamp) -> io::Result<bool> {
    for path in files.keys() {
        check(path)?;
    }
    fs::create_dir_all(dir)?;
    let old = fs::read_link(dir.join(DATA)).ok();
    if let Some(old) = &old
        && same(&dir.join(old), files)
    {
        return Ok(false);
    }
    let fresh = fresh_dir(dir, now)?;
    fill(&dir.join(&fresh), files, group)?;
    let next = dir.join(DATA_NEXT);
    let _ = fs::remove_file(&next);
    symlink(&fresh, &next)?;
    fs::rename(&next, dir.join(DATA))?;
    link_names(dir, files)?;
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old))?;
    }
    Ok(true)
}

/// Refuses what Kubernetes refuses: absolute paths, `..` anywhere, names that
/// begin with `..` at the top.
fn check(path: &str) -> io::Result<()> {
    let good = !path.is_empty()
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        && !path.starts_with("..");
    if good {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidInput,
        format!("invalid path {path:?} in a volume"),
    ))
}

fn fresh_dir(dir: &Path, now: Timestamp) -> io::Result<String> {
    let stamp = now.strftime("%Y_%m_%d_%H_%M_%S").to_string();
    let mut nanos = now.subsec_nanosecond().unsigned_abs();
    loop {
        let name = format!("..{stamp}.{nanos:09}");
        match fs::DirBuilder::new().mode(0o755).create(dir.join(&name)) {
            Ok(()) => return Ok(name),
            // The same instant again: a clock that stands still, in tests or after a jump back.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => nanos = nanos.wrapping_add(1),
            Err(error) => return Err(error),
        }
    }
}

fn fill(dir: &Path, files: &Files, group: Option<u32>) -> io::Result<()> {
    set_mode(dir, if group.is_some() { 0o2755 } else { 0o755 })?;
    own(dir, None, group)?;
    for (path, file) in files {
        let path = dir.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut handle = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        handle.write_all(&file.bytes)?;
        // The group of the volume may read what the owner may.
        let mode = if group.is_some() {
            file.mode | 0o440
        } else {
            file.mode
        };
        own(&path, file.owner, group)?;
        set_mode(&path, mode)?;
    }
    Ok(())
}

fn own(path: &Path, owner: Option<u32>, group: Option<u32>) -> io::Result<()> {
    if owner.is_none() && group.is_none() {
        return Ok(());
    }
    std::os::unix::fs::chown(path, owner, group)
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Points the visible names at `..data` and drops those that are gone.
fn link_names(dir: &Path, files: &Files) -> io::Result<()> {
    let names: BTreeSet<&str> = files.keys().filter_map(|path| path.split('/').next()).collect();
    for name in &names {
        let link = dir.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(PathBuf::from(DATA).join(name), link)?;
        }
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with("..") && !names.contains(name.as_str()) && entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn same(dir: &Path, files: &Files) -> bool {
    let mut found = 0;
    if count(dir, &mut found).is_err() || found != files.len() {
        return false;
    }
    files.iter().all(|(path, file)| {
        let path = dir.join(path);
        let mode = fs::metadata(&path).map(|m| m.mode() & 0o777).unwrap_or(0);
        (mode & file.mode) == file.mode && fs::read(&path).is_ok_and(|bytes| bytes == file.bytes)
    })
}

fn count(dir: &Path, found: &mut usize) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            count(&entry.path(), found)?;
        } else {
            *found += 1;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(list: &[(&str, &str)]) -> Files {
        let file = |text: &str| File {
            bytes: text.as_bytes().to_vec(),
            mode: 0o644,
            owner: None,
        };
        list.iter()
            .map(|(path, text)| ((*path).to_owned(), file(text)))
            .collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn replaces_all_files_in_one_step() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("v");
        assert!(write(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None, at(1)).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "1");
        assert_eq!(fs::read_to_string(dir.join("sub/b")).unwrap(), "2");
        assert_eq!(fs::read_link(dir.join("a")).unwrap(), Path::new("..data/a"));
        let first = fs::read_link(dir.join(DATA)).unwrap();
        assert_eq!(first, Path::new("..1970_01_01_00_00_01.000000000"));
        assert!(!write(&dir, &files(&[("a", "1"), ("sub/b", "2")]), None, at(2)).unwrap());
        assert!(write(&dir, &files(&[("a", "one"), ("c", "3")]), None, at(1)).unwrap());
        assert_eq!(fs::read_to_string(dir.join("a")).unwrap(), "one");
        assert_eq!(fs::read_to_string(dir.join("c")).unwrap(), "3");
        assert!(!dir.join("sub").exists() && fs::symlink_metadata(dir.join("sub")).is_err());
        assert!(!dir.join(first).exists());
        let left = fs::read_dir(&dir).unwrap().count();
        assert_eq!(left, 4, "..data, its folder, a, c");
    }

    #[test]
    fn an_open_file_keeps_its_old_content() {
        let temp = tempfile::tempdir().unwrap();
        write(temp.path(), &files(&[("a", "old")]), None, at(1)).unwrap();
        let mut open = fs::File::open(temp.path().join("a")).unwrap();
        write(temp.path(), &files(&[("a", "new")]), None, at(2)).unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut open, &mut text).unwrap();
        assert_eq!(text, "old");
    }

    #[test]
    fn modes_are_kept_and_groups_may_read() {
        let temp = tempfile::tempdir().unwrap();
        let mut list = files(&[("a", "1")]);
        list.get_mut("a").unwrap().mode = 0o400;
        write(temp.path(), &list, None, at(1)).unwrap();
        let mode = |path: &str| fs::metadata(temp.path().join(path)).unwrap().mode() & 0o7777;
        assert_eq!(mode("a"), 0o400);
        assert!(!write(temp.path(), &list, None, at(2)).unwrap());
    }

    #[test]
    fn no_path_leads_out() {
        let temp = tempfile::tempdir().unwrap();
        for path in ["../x", "/x", "a/../../x", "..x", ""] {
            assert!(
                write(temp.path(), &files(&[(path, "1")]), None, at(1)).is_err(),
                "{path}"
            );
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }
}
