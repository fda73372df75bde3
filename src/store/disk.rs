//! The few file operations that the log is made of, so that a simulated disk
//! can stand in and lose, tear and forget what was not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use direct::Direct;
pub use file::{DiskFile, SECTOR_BYTES};

mod direct;
mod file;

/// A folder with fixed-size files.
pub trait Disk: Send + Sync {
    /// The names of all files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file of `size` zero bytes. When this returns, the file, its size
    /// and its name survive a power cut, and writing within it moves no metadata.
    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>>;
    /// Removes a file; when this returns, it stays removed after a power cut.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Where a file lies, for messages.
    fn path(&self, name: &str) -> PathBuf;
}

/// A folder of the real file system.
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// Opens the folder, making it (but not its parents) if it is missing.
    pub fn open(path: &Path) -> io::Result<Folder> {
        match std::fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(Folder {
                path: path.to_owned(),
            }),
        }
    }
}

/// How much is zeroed by one write while a file is prefilled.
const FILL_BYTES: usize = 256 << 10;

impl Disk for Folder {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = vec![];
        for entry in std::fs::read_dir(&self.path)? {
            // Names that are not UTF-8 are not ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        let made = prefill(&file, size).and_then(|()| File::open(&self.path)?.sync_all());
        if let Err(error) = made {
            // What there is of it takes room that is wanted, most likely.
            let _ = std::fs::remove_file(path);
            return Err(error);
        }
        Ok(Arc::new(Direct::new(file, &path)))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path.join(name);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Arc::new(Direct::new(file, &path)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.path.join(name))?;
        File::open(&self.path)?.sync_all()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Really written, not fallocate: the file system would have to note at each
/// sync that blocks are no longer unwritten, which doubles its cost.
fn prefill(file: &File, size: u64) -> io::Result<()> {
    let zeros = vec![0; FILL_BYTES.min(size as usize)];
    let mut offset = 0;
    while offset < size {
        let length = zeros.len().min((size - offset) as usize);
        file.write_all_at(&zeros[..length], offset)?;
        offset += length as u64;
    }
    file.sync_all()
}
