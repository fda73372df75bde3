//! Keeps content that is being put in place from being collected.
//!
//! A layer is of no image until its image is recorded. Meanwhile a file in
//! `in-use/`, locked as long as its owner lives, names what must stay.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{ImageError, disk, places};

/// How the files' names begin; containers' marks have other names.
const PREFIX: &str = "fetch-";

/// Names content that must stay until this is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    dir: PathBuf,
    path: PathBuf,
    file: File,
}

impl Lease {
    /// A lease on nothing yet.
    pub(super) fn open(dir: &Path) -> Result<Lease, ImageError> {
        let _lock = places::lock(dir)?;
        let name = places::temporary(dir, PREFIX.trim_end_matches('-'))?;
        let path = dir.join("in-use").join(name.file_name().unwrap_or_default());
        let file = File::create(&path).map_err(disk("marking content as used"))?;
        file.lock().map_err(disk("marking content as used"))?;
        Ok(Lease {
            dir: dir.to_owned(),
            path,
            file,
        })
    }

    /// From now on content of that digest stays, if it is there.
    pub(super) fn hold(&self, digest: &str) -> Result<(), ImageError> {
        let _lock = places::lock(&self.dir)?;
        writeln!(&self.file, "{digest}").map_err(disk("marking content as used"))
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // One that stays is known to be stale by its missing lock.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether a file of `in-use/` is a lease whose owner is gone.
pub(super) fn is_stale(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(PREFIX) && File::open(path).is_ok_and(|file| file.try_lock().is_ok())
}

#[cfg(test)]
mod tests {
    use super::super::records;
    use super::*;

    #[test]
    fn a_lease_is_stale_without_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        records::prepare(dir.path()).unwrap();
        let lease = Lease::open(dir.path()).unwrap();
        lease.hold("sha256:x").unwrap();
        assert!(!is_stale(&lease.path));
        assert_eq!(fs::read_to_string(&lease.path).unwrap(), "sha256:x\n");
        let left = lease.path.with_file_name("fetch-left");
        fs::write(&left, "sha256:y\n").unwrap();
        assert!(is_stale(&left));
        assert!(!is_stale(&left.with_file_name("container")));
        let path = lease.path.clone();
        drop(lease);
        assert!(!path.exists());
    }
}
