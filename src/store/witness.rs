//! The state of a witness: none but what the group is like (`Meta`), in one
//! small file. What a witness applies changes who is in the group and how far
//! the log may be forgotten, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::error::StoreError;
use crate::plant::{Plant, Plants};
use crate::state::{Expired, Export, Import, Install, Meta, State, Usage, Version};
use crate::types::{Entry, Event, ListQuery, Listing};

/// The file in the data folder; a folder that has it is a witness's.
pub const FILE: &str = "witness";
const MAGIC: &[u8; 8] = b"CORACWIT";

/// Where the meta data are kept. What is put there replaces what was there, durably, or fails.
pub trait Keep: Send + Sync {
    /// What was put there last.
    fn get(&self) -> Result<Option<Vec<u8>>, StoreError>;
    /// Replaces it.
    fn put(&self, bytes: &[u8]) -> Result<(), StoreError>;
}

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct Witness {
    keep: Arc<dyn Keep>,
    // A std mutex: nothing awaits inside it, and only the disk is slow.
    now: Arc<Mutex<Option<Meta>>>,
    plants: Plants,
}

impl Witness {
    /// What is kept in a data folder.
    pub fn open(dir: &Path) -> Result<Witness, StoreError> {
        Witness::kept(Arc::new(File(dir.join(FILE))), Plants::default())
    }

    /// What is kept there.
    pub fn kept(keep: Arc<dyn Keep>, plants: Plants) -> Result<Witness, StoreError> {
        let meta = keep.get()?.map(decode).transpose()?;
        Ok(Witness {
            keep,
            now: Arc::new(Mutex::new(meta)),
            plants,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Meta>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a witness is asked in vain: only its group's full servers have it.
fn nothing_here() -> StoreError {
    StoreError::Stopped("a witness keeps no state".into())
}

impl State for Witness {
    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        Ok(self.lock().clone())
    }

    fn load(&self) -> Result<Vec<Arc<Entry>>, StoreError> {
        Ok(vec![])
    }

    fn write(&self, _: &[Arc<Event>], meta: &Meta) -> Result<(), StoreError> {
        *self.lock() = Some(meta.clone());
        Ok(())
    }

    /// The log may go only as far as every full voter has it too. The last such
    /// entry stays: what follows it can be offered only by one who knows its term.
    fn flush(&self) -> Result<u64, StoreError> {
        let Some(meta) = self.meta()? else { return Ok(0) };
        self.keep.put(&encode(&meta))?;
        Ok(dispensable(&meta, self.plants))
    }

    fn list_at(&self, _: &ListQuery, _: u64) -> Result<Listing, StoreError> {
        Err(nothing_here())
    }

    fn events(&self, _: &str, _: u64, _: u64, _: usize) -> Result<Vec<Arc<Event>>, StoreError> {
        Err(nothing_here())
    }

    fn expired(&self, _: u64, _: usize) -> Result<Expired, StoreError> {
        Ok(vec![])
    }

    fn sweep(&self, _: u64) -> Result<bool, StoreError> {
        Ok(false)
    }

    fn renew(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn defragment(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        Err(nothing_here())
    }

    fn import(&self) -> Result<Box<dyn Import>, StoreError> {
        Ok(Box::new(Head(self.clone())))
    }
}

/// A witness's log may lack entries up to this one.
pub fn dispensable(meta: &Meta, plants: Plants) -> u64 {
    match plants.has(Plant::WitnessForgets) {
        true => meta.applied,
        false => meta.applied.min(meta.held.saturating_sub(1)),
    }
}

/// A copy of the state without the state: what a witness is sent, by those who know that it is one.
pub struct Nothing;

impl Export for Nothing {
    fn next(&mut self) -> Result<Vec<Version>, StoreError> {
        Ok(vec![])
    }
}

/// Takes in the head of a copy and lets the rest pass by.
struct Head(Witness);

impl Import for Head {
    fn add(&mut self, _: Vec<Version>, _: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Install, StoreError> {
        // A disk that takes nothing is noticed while the snapshot can still be refused.
        if let Some(bytes) = self.0.keep.get()? {
            self.0.keep.put(&bytes)?;
        }
        Ok(Box::new(move |meta| {
            self.0.keep.put(&encode(meta))?;
            *self.0.lock() = Some(meta.clone());
            Ok(())
        }))
    }
}

/// `magic crc:u32 meta`, the number little-endian.
fn encode(meta: &Meta) -> Vec<u8> {
    let meta = meta.encode();
    [MAGIC.as_slice(), &crc32fast::hash(&meta).to_le_bytes(), &meta].concat()
}

fn decode(bytes: Vec<u8>) -> Result<Meta, StoreError> {
    let damaged = || StoreError::Damaged {
        file: FILE.into(),
        offset: 0,
        reason: "it is not what a witness wrote there".into(),
    };
    let rest = bytes.strip_prefix(MAGIC.as_slice()).ok_or_else(damaged)?;
    let (crc, meta) = rest.split_first_chunk().ok_or_else(damaged)?;
    if crc32fast::hash(meta) != u32::from_le_bytes(*crc) {
        return Err(damaged());
    }
    Meta::decode(Bytes::copy_from_slice(meta))
}

/// The file of a real witness.
struct File(PathBuf);

impl Keep for File {
    fn get(&self) -> Result<Option<Vec<u8>>, StoreError> {
        match std::fs::read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StoreError::io("reading", &self.0, error)),
        }
    }

    fn put(&self, bytes: &[u8]) -> Result<(), StoreError> {
        base::files::replace(&self.0, bytes, 0o600, true).map_err(|e| StoreError::io("writing", &self.0, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(applied: u64, held: u64) -> Meta {
        Meta {
            applied,
            held,
            cluster: 5,
            member: 9,
            ..Meta::default()
        }
    }

    #[test]
    fn what_is_flushed_comes_back_and_damage_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::open(folder.path()).unwrap();
        assert_eq!(witness.meta().unwrap(), None);
        witness.write(&[], &meta(40, 30)).unwrap();
        assert_eq!(Witness::open(folder.path()).unwrap().meta().unwrap(), None);
        witness.flush().unwrap();
        let again = Witness::open(folder.path()).unwrap();
        assert_eq!(again.meta().unwrap(), Some(meta(40, 30)));

        let path = folder.path().join(FILE);
        let mut bytes = std::fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let refused = Witness::open(folder.path()).err().unwrap().to_string();
        assert!(refused.contains("witness is damaged"), "{refused}");
    }

    #[test]
    fn log_is_let_go_only_as_far_as_all_full_voters_have_it() {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::open(folder.path()).unwrap();
        assert_eq!(witness.flush().unwrap(), 0);
        witness.write(&[], &meta(40, 0)).unwrap();
        assert_eq!(witness.flush().unwrap(), 0);
        witness.write(&[], &meta(40, 30)).unwrap();
        assert_eq!(witness.flush().unwrap(), 29);
    }

    #[test]
    fn of_a_copy_only_the_head_is_taken_and_at_once_durable() {
        let folder = tempfile::tempdir().unwrap();
        let witness = Witness::open(folder.path()).unwrap();
        let mut import = witness.import().unwrap();
        let version = Version {
            key: "/a".into(),
            revision: 7,
            value: Bytes::from_static(b"whatever"),
        };
        import.add(vec![version], 0).unwrap();
        import.finish().unwrap()(&meta(50, 0)).unwrap();
        let again = Witness::open(folder.path()).unwrap();
        assert_eq!(again.meta().unwrap(), Some(meta(50, 0)));
        assert!(again.export().is_err() && again.load().unwrap().is_empty());
    }
}
