//! The data folder: its format, its owner and its identity.
//!
//! `version` holds the number of the folder's format, `lock` is held (and
//! names the process) while a node runs in it, `instance-id` holds the eight
//! hex digits that prefix every kernel object the node makes.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base::random::{Random, SystemRandom};

/// The format this build reads and writes.
const FORMAT: u32 = 1;

/// Why a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The file system refused.
    #[error("cannot use {path}: {source}")]
    Io {
        /// The file or folder in question.
        path: PathBuf,
        /// What the file system said.
        source: std::io::Error,
    },
    /// It is something else.
    #[error("{path} is not a folder: give another --data-dir")]
    NotAFolder {
        /// What was named.
        path: PathBuf,
    },
    /// Another process runs in it.
    #[error("{path} is in use by process {pid}: stop that one first, or give another --data-dir")]
    Busy {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, as it wrote itself down.
        pid: String,
    },
    /// It holds something that is not ours.
    #[error(
        "{path} is not empty and not a data folder of Coracle (no file `version`): give another --data-dir"
    )]
    Foreign {
        /// The folder.
        path: PathBuf,
    },
    /// It was written by a newer build.
    #[error("{path} has format {found}, this build knows formats up to {FORMAT}: use a newer coracle")]
    Newer {
        /// The folder.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// A file in it does not say what it should.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
}

/// A data folder that this process may use; the lock is freed on drop.
#[derive(Debug)]
pub struct Folder {
    /// Where it is.
    pub path: PathBuf,
    /// Eight hex digits that mark our kernel objects.
    pub instance_id: String,
    _lock: File,
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> FolderError + '_ {
    move |source| FolderError::Io {
        path: path.to_owned(),
        source,
    }
}

impl Folder {
    /// Opens the folder, making it when it does not exist, and takes its lock.
    ///
    /// # Errors
    /// When it is in use, foreign, newer than this build, damaged or unreadable.
    pub fn open(path: &Path) -> Result<Self, FolderError> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
        if path.exists() && !path.is_dir() {
            return Err(FolderError::NotAFolder {
                path: path.to_owned(),
            });
        }
        made.map_err(io(path))?;
        let path = fs::canonicalize(path).map_err(io(path))?;
        check_format(&path)?;
        let lock = take_lock(&path)?;
        let instance_id = identity(&path)?;
        Ok(Self {
            path,
            instance_id,
            _lock: lock,
        })
    }
}

/// The process that runs in the folder, if one does.
pub fn owner(path: &Path) -> Option<i32> {
    let mut file = File::open(path.join("lock")).ok()?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            file.read_to_string(&mut text).ok()?;
            text.trim().parse().ok()
        }
        _ => None,
    }
}

fn check_format(path: &Path) -> Result<(), FolderError> {
    let file = path.join("version");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let found: u32 = text.trim().parse().map_err(|_| FolderError::Damaged {
                path: file.clone(),
                what: "not a format number".to_owned(),
            })?;
            if found > FORMAT {
                return Err(FolderError::Newer {
                    path: path.to_owned(),
                    found,
                });
            }
            Ok(())
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            // An import before the first start may have left only the images.
            let strange = fs::read_dir(path).map_err(io(path))?.flatten().any(|entry| {
                !["lock", "images", "version.new"]
                    .iter()
                    .any(|ours| entry.file_name() == *ours)
            });
            if strange {
                return Err(FolderError::Foreign {
                    path: path.to_owned(),
                });
            }
            write_whole(path, "version", &format!("{FORMAT}\n"))
        }
        Err(e) => Err(FolderError::Io {
            path: file,
            source: e,
        }),
    }
}

/// Writes a small file so that a crash leaves either nothing or all of it.
fn write_whole(folder: &Path, name: &str, text: &str) -> Result<(), FolderError> {
    let path = folder.join(name);
    base::files::replace(&path, text.as_bytes(), 0o644, true).map_err(io(&path))
}

fn take_lock(path: &Path) -> Result<File, FolderError> {
    let name = path.join("lock");
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&name)
        .map_err(io(&name))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            file.read_to_string(&mut pid).map_err(io(&name))?;
            return Err(FolderError::Busy {
                path: path.to_owned(),
                pid: pid.trim().to_owned(),
            });
        }
        Err(TryLockError::Error(e)) => {
            return Err(FolderError::Io {
                path: name,
                source: e,
            });
        }
    }
    file.set_len(0).map_err(io(&name))?;
    file.rewind().map_err(io(&name))?;
    writeln!(file, "{}", std::process::id()).map_err(io(&name))?;
    Ok(file)
}

fn identity(path: &Path) -> Result<String, FolderError> {
    match read_identity(path)? {
        Some(id) => Ok(id),
        None => {
            let id = SystemRandom.hex(8);
            write_whole(path, "instance-id", &format!("{id}\n"))?;
            Ok(id)
        }
    }
}

/// The identity of the folder, if it was ever used.
///
/// # Errors
/// When the file is unreadable or does not hold eight hex digits.
pub fn read_identity(path: &Path) -> Result<Option<String>, FolderError> {
    let file = path.join("instance-id");
    match fs::read_to_string(&file) {
        Ok(text) => {
            let id = text.trim().to_owned();
            if id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Ok(Some(id));
            }
            Err(FolderError::Damaged {
                path: file,
                what: "not eight hex digits".to_owned(),
            })
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(FolderError::Io {
            path: file,
            source: e,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_folder_gets_a_version_a_lock_and_an_identity_that_last() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("data");
        let first = Folder::open(&path).unwrap();
        assert_eq!(first.instance_id.len(), 8);
        assert_eq!(owner(&path), Some(std::process::id() as i32));
        assert!(matches!(Folder::open(&path), Err(FolderError::Busy { .. })));
        let id = first.instance_id.clone();
        drop(first);
        assert_eq!(owner(&path), None);
        assert_eq!(Folder::open(&path).unwrap().instance_id, id);
    }

    #[test]
    fn foreign_newer_and_damaged_folders_are_refused_untouched() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("precious"), "x").unwrap();
        assert!(matches!(
            Folder::open(temp.path()),
            Err(FolderError::Foreign { .. })
        ));
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);

        let file = temp.path().join("precious");
        assert!(matches!(Folder::open(&file), Err(FolderError::NotAFolder { .. })));

        fs::write(temp.path().join("version"), "99\n").unwrap();
        assert!(matches!(
            Folder::open(temp.path()),
            Err(FolderError::Newer { found: 99, .. })
        ));
        fs::write(temp.path().join("version"), "x\n").unwrap();
        assert!(matches!(
            Folder::open(temp.path()),
            Err(FolderError::Damaged { .. })
        ));
    }
}
