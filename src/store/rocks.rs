//! The state in RocksDB: one database at a time, in a folder of its own.
//!
//! ```text
//! state/           the first database
//! state.N/         the Nth that took its place, made of another member's copy
//! state.incoming/  one that is being made; worth nothing
//! ```
//! The folder with the highest number counts, the others are removed. A copy is
//! filled, flushed and closed under the name `state.incoming`, and counts from
//! the moment it is renamed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::error::StoreError;
use crate::state::{Expired, Export, Import, Meta, State, Usage};
use crate::types::{Entry, Event, ListQuery, Listing};

mod copy;
mod database;
mod keys;
mod place;
mod space;
mod tuning;

use database::Database;
pub(crate) use place::remove;
use place::{NAME, Place, folder, numbers};

/// The state below a store's folder.
pub struct Rocks {
    place: Arc<Place>,
}

impl Rocks {
    /// Opens the state in `dir`, or makes one.
    pub fn open(dir: &Path) -> Result<Rocks, StoreError> {
        let numbers = numbers(dir)?;
        let current = numbers.iter().max().copied().unwrap_or(0);
        for old in numbers.into_iter().filter(|number| *number != current) {
            remove(&folder(dir, old))?;
        }
        remove(&dir.join(format!("{NAME}.incoming")))?;
        let database = Arc::new(Database::open(&folder(dir, current))?);
        Ok(Rocks {
            place: Arc::new(Place {
                dir: dir.to_owned(),
                current: RwLock::new((current, database)),
                damage: Mutex::default(),
            }),
        })
    }

    /// Whether a folder holds a state.
    pub fn is_in(dir: &Path) -> Result<bool, StoreError> {
        Ok(!numbers(dir)?.is_empty())
    }

    /// The folder in `dir` that counts.
    pub fn newest(dir: &Path) -> Result<PathBuf, StoreError> {
        Ok(folder(dir, numbers(dir)?.into_iter().max().unwrap_or(0)))
    }

    fn database(&self) -> Arc<Database> {
        self.place.current().1
    }
}

impl State for Rocks {
    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        self.database().meta()
    }

    fn load(&self) -> Result<Vec<Arc<Entry>>, StoreError> {
        self.database().load()
    }

    fn write(&self, events: &[Arc<Event>], meta: &Meta) -> Result<(), StoreError> {
        self.database().write(events, meta)
    }

    fn flush(&self) -> Result<u64, StoreError> {
        self.database().flush()
    }

    fn list_at(&self, query: &ListQuery, revision: u64) -> Result<Listing, StoreError> {
        self.place.note(self.database().list_at(query, revision))
    }

    fn events(
        &self,
        prefix: &str,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        self.place
            .note(self.database().events(prefix, after, until, limit))
    }

    fn expired(&self, now_ms: u64, limit: usize) -> Result<Expired, StoreError> {
        self.place.note(self.database().expired(now_ms, limit))
    }

    fn sweep(&self, compacted: u64) -> Result<bool, StoreError> {
        self.place.note(self.database().sweep(compacted))
    }

    fn usage(&self) -> Usage {
        self.database().usage()
    }

    fn defragment(&self) -> Result<(), StoreError> {
        self.database().defragment()
    }

    fn renew(&self) -> Result<(), StoreError> {
        copy::renew(&self.place)
    }

    fn damage(&self) -> Option<String> {
        let damage = self.place.damage.lock();
        damage.unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        copy::export(self.place.clone())
    }

    fn import(&self) -> Result<Box<dyn Import>, StoreError> {
        copy::import(self.place.clone())
    }
}
