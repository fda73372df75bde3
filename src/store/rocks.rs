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

use base::files::absent_is_fine;
use tracing::error;

use crate::error::StoreError;
use crate::state::{Expired, Export, Import, Meta, State, Usage};
use crate::types::{Entry, Event, ListQuery, Listing};

mod copy;
mod database;
mod keys;
mod space;
mod tuning;

use database::Database;

/// What all the folders' names begin with.
const NAME: &str = "state";
/// Less room than this is none.
const PROBE_BYTES: usize = 4 << 20;

/// The state below a store's folder.
pub struct Rocks {
    place: Arc<Place>,
}

/// Where databases lie, and the one that counts.
struct Place {
    dir: PathBuf,
    /// Replaced when a copy is installed; who reads meanwhile keeps the old one.
    current: RwLock<(u64, Arc<Database>)>,
    /// What was found damaged in it, in words.
    damage: Mutex<Option<String>>,
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

impl Place {
    fn current(&self) -> (u64, Arc<Database>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Remembers, and says once, what a reader found damaged. That the system refuses to read is no damage.
    fn note<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
        let found = match &read {
            Err(StoreError::State { source, .. }) => source.kind() != rocksdb::ErrorKind::IOError,
            Err(StoreError::Format { .. }) => true,
            _ => false,
        };
        if let (true, Err(error)) = (found, &read) {
            let mut damage = self.damage.lock().unwrap_or_else(PoisonError::into_inner);
            if damage.is_none() {
                error!(%error, "the state is damaged");
                *damage = Some(error.to_string());
            }
        }
        read
    }

    /// Lets the closed database in `state.incoming` count from now on.
    fn replace(&self) -> Result<(), StoreError> {
        let (old, _) = self.current();
        let new = folder(&self.dir, old + 1);
        let incoming = self.incoming();
        std::fs::rename(&incoming, &new).map_err(|e| StoreError::io("renaming", &incoming, e))?;
        let dir = std::fs::File::open(&self.dir).and_then(|dir| dir.sync_all());
        dir.map_err(|e| StoreError::io("syncing", &self.dir, e))?;
        let database = Arc::new(Database::open(&new)?);
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = (old + 1, database);
        *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = None;
        remove(&folder(&self.dir, old))
    }

    /// Whether the disk takes writes: begins no large copy in vain.
    fn probe(&self) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{NAME}.probe"));
        let written =
            std::fs::write(&path, vec![0; PROBE_BYTES]).map_err(|e| StoreError::io("writing", &path, e));
        remove_file(&path).and(written)
    }

    fn incoming(&self) -> PathBuf {
        self.dir.join(format!("{NAME}.incoming"))
    }
}

fn folder(dir: &Path, number: u64) -> PathBuf {
    match number {
        0 => dir.join(NAME),
        _ => dir.join(format!("{NAME}.{number}")),
    }
}

/// The numbers of the databases in `dir`.
fn numbers(dir: &Path) -> Result<Vec<u64>, StoreError> {
    let mut numbers = vec![];
    for entry in std::fs::read_dir(dir).map_err(|e| StoreError::io("listing", dir, e))? {
        let name = entry.map_err(|e| StoreError::io("listing", dir, e))?.file_name();
        match name.to_str().and_then(|name| name.strip_prefix(NAME)) {
            Some("") => numbers.push(0),
            Some(rest) => numbers.extend(rest.strip_prefix('.').and_then(|n| n.parse::<u64>().ok())),
            None => {}
        }
    }
    Ok(numbers)
}

fn remove_file(path: &Path) -> Result<(), StoreError> {
    let removed = absent_is_fine(std::fs::remove_file(path));
    removed.map_err(|error| StoreError::io("removing", path, error))
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = absent_is_fine(std::fs::remove_dir_all(path));
    removed.map_err(|error| StoreError::io("removing", path, error))
}
