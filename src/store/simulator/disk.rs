//! A disk that forgets: what was not synced survives a power cut by chance,
//! sector by sector, and the machine may stop between any two operations. It
//! also fills up, fails and becomes read-only for a while; after a failed sync
//! its cache believes, as Linux' does, that everything is on the platter.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use base::Random;

use crate::disk::{Disk, DiskFile, SECTOR_BYTES};

const SECTOR: usize = SECTOR_BYTES as usize;

/// How the machine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// Unsynced sectors survive or not, each by chance.
    PowerCut,
    /// Only the process dies: all writes survive, though still unsynced.
    Kill,
}

/// What a disk may refuse for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no room for new files.
    Full,
    /// Writes stop half-way.
    Write,
    /// Syncs fail, and what they were about counts as synced to the cache.
    Sync,
    /// Nothing can be changed.
    ReadOnly,
}

/// All of them, to choose from.
pub const TROUBLES: [Trouble; 4] = [Trouble::Full, Trouble::Write, Trouble::Sync, Trouble::ReadOnly];

/// The simulated disk; clones are the same disk.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<String, Content>,
    /// Operations left until everything fails.
    fuse: Option<u64>,
    /// How many more operations fail, and how.
    trouble: Option<(Trouble, u64)>,
}

struct Content {
    /// What reads see.
    seen: Vec<u8>,
    /// What certainly survives a power cut.
    durable: Vec<u8>,
    /// Ranges written since the last sync.
    pending: Vec<(usize, usize)>,
}

struct SimFile {
    disk: SimDisk,
    name: String,
}

impl SimDisk {
    /// After so many more writes and syncs every operation fails, until the crash.
    pub fn light_fuse(&self, operations: u64) {
        self.lock().fuse = Some(operations);
    }

    /// So many operations fail from now on.
    pub fn trouble(&self, trouble: Trouble, operations: u64) {
        self.lock().trouble = Some((trouble, operations));
    }

    /// Whether the fuse has burnt down: the machine is as good as stopped.
    pub fn dead(&self) -> bool {
        self.lock().fuse == Some(0)
    }

    /// Stops the machine and starts it again.
    pub fn crash(&self, how: Crash, random: &dyn Random) {
        let mut inner = self.lock();
        inner.fuse = None;
        inner.trouble = None;
        if how == Crash::Kill {
            return;
        }
        for content in inner.files.values_mut() {
            content.lose(random);
        }
    }

    /// Flips one bit where it counts: on the platter and in the cache.
    pub fn flip(&self, name: &str, offset: usize) {
        if let Some(content) = self.lock().files.get_mut(name) {
            content.seen[offset] ^= 4;
            content.durable[offset] ^= 4;
        }
    }

    /// Writes past everything, on the platter and in the cache.
    pub fn overwrite(&self, name: &str, offset: usize, bytes: &[u8]) {
        if let Some(content) = self.lock().files.get_mut(name) {
            let range = offset..offset + bytes.len();
            content.seen[range.clone()].copy_from_slice(bytes);
            content.durable[range].copy_from_slice(bytes);
        }
    }

    /// A file's bytes as reads see them.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.lock()
            .files
            .get(name)
            .map_or(vec![], |content| content.seen.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a simulated disk")
    }
}

impl Content {
    fn lose(&mut self, random: &dyn Random) {
        let luck = random.below(3);
        for (start, end) in std::mem::take(&mut self.pending) {
            for sector in start / SECTOR..end.div_ceil(SECTOR) {
                let kept = luck == 1 || (luck == 2 && random.below(2) == 0);
                let range = (sector * SECTOR).max(start)..((sector + 1) * SECTOR).min(end);
                if kept {
                    self.durable[range.clone()].copy_from_slice(&self.seen[range]);
                }
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

impl Inner {
    fn burn(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => Err(io::Error::other("the machine has stopped")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether an operation meets with one of these troubles.
    fn suffers(&mut self, kinds: &[Trouble]) -> Option<Trouble> {
        let (trouble, left) = self.trouble.as_mut()?;
        if *left == 0 || !kinds.contains(trouble) {
            return None;
        }
        *left -= 1;
        Some(*trouble)
    }

    fn content(&mut self, name: &str) -> io::Result<&mut Content> {
        self.files.get_mut(name).ok_or(io::ErrorKind::NotFound.into())
    }
}

impl Disk for SimDisk {
    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().files.keys().cloned().collect())
    }

    fn create(&self, name: &str, size: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut inner = self.lock();
        inner.burn()?;
        if inner.suffers(&[Trouble::Full, Trouble::ReadOnly]).is_some() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if inner.files.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let zeros = vec![0; size as usize];
        let content = Content {
            seen: zeros.clone(),
            durable: zeros,
            pending: vec![],
        };
        inner.files.insert(name.to_owned(), content);
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn DiskFile>> {
        self.lock().content(name)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            name: name.to_owned(),
        }))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut inner = self.lock();
        inner.burn()?;
        if inner.suffers(&[Trouble::ReadOnly]).is_some() {
            return Err(io::ErrorKind::ReadOnlyFilesystem.into());
        }
        inner
            .files
            .remove(name)
            .map(drop)
            .ok_or(io::ErrorKind::NotFound.into())
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from("simulated").join(name)
    }
}

impl DiskFile for SimFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().content(&self.name)?.seen.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let seen = &inner.content(&self.name)?.seen;
        let range = seen.get(offset as usize..offset as usize + buffer.len());
        buffer.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut inner = self.disk.lock();
        let burnt = inner.burn();
        let suffers = inner.suffers(&[Trouble::Write, Trouble::ReadOnly]);
        let bytes = match suffers {
            None => bytes,
            Some(Trouble::ReadOnly) => return Err(io::ErrorKind::ReadOnlyFilesystem.into()),
            Some(_) => &bytes[..bytes.len() / 2],
        };
        let content = inner.content(&self.name)?;
        let (start, end) = (offset as usize, offset as usize + bytes.len());
        assert!(
            end <= content.seen.len(),
            "a write goes beyond the prefilled file"
        );
        // Even the write during which the machine stops may reach the disk.
        content.seen[start..end].copy_from_slice(bytes);
        // The rest of the last sector goes with it.
        let rest = end.next_multiple_of(SECTOR).min(content.seen.len());
        content.seen[end..rest].fill(0);
        content.pending.push((start, rest));
        match suffers {
            None => burnt,
            Some(_) => Err(io::Error::other("the disk fails")),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.disk.lock();
        inner.burn()?;
        let fails = inner.suffers(&[Trouble::Sync]).is_some();
        let content = inner.content(&self.name)?;
        let pending = std::mem::take(&mut content.pending);
        if fails {
            return Err(io::Error::other("the disk fails"));
        }
        for (start, end) in pending {
            content.durable[start..end].copy_from_slice(&content.seen[start..end]);
        }
        Ok(())
    }
}
