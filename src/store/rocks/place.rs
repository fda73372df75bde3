//! Where the databases of a state lie.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base::files::absent_is_fine;
use tracing::error;

use super::database::Database;
use crate::error::StoreError;

/// What all the folders' names begin with.
pub(super) const NAME: &str = "state";

/// Less room than this is none.
pub(super) const PROBE_BYTES: usize = 4 << 20;

/// Where databases lie, and the one that counts.
pub(super) struct Place {
    pub(super) dir: PathBuf,
    /// Replaced when a copy is installed; who reads meanwhile keeps the old one.
    pub(super) current: RwLock<(u64, Arc<Database>)>,
    /// What was found damaged in it, in words.
    pub(super) damage: Mutex<Option<String>>,
}

impl Place {
    pub(super) fn current(&self) -> (u64, Arc<Database>) {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        current.clone()
    }

    /// Remembers, and says once, what a reader found damaged. That the system refuses to read is no damage.
    pub(super) fn note<T>(&self, read: Result<T, StoreError>) -> Result<T, StoreError> {
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
    pub(super) fn replace(&self) -> Result<(), StoreError> {
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
    pub(super) fn probe(&self) -> Result<(), StoreError> {
        let path = self.dir.join(format!("{NAME}.probe"));
        let written =
            std::fs::write(&path, vec![0; PROBE_BYTES]).map_err(|e| StoreError::io("writing", &path, e));
        remove_file(&path).and(written)
    }

    pub(super) fn incoming(&self) -> PathBuf {
        self.dir.join(format!("{NAME}.incoming"))
    }
}

pub(super) fn folder(dir: &Path, number: u64) -> PathBuf {
    match number {
        0 => dir.join(NAME),
        _ => dir.join(format!("{NAME}.{number}")),
    }
}

/// The numbers of the databases in `dir`.
pub(super) fn numbers(dir: &Path) -> Result<Vec<u64>, StoreError> {
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

pub(super) fn remove_file(path: &Path) -> Result<(), StoreError> {
    let removed = absent_is_fine(std::fs::remove_file(path));
    removed.map_err(|error| StoreError::io("removing", path, error))
}

/// Removes a folder with all that is in it, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    let removed = absent_is_fine(std::fs::remove_dir_all(path));
    removed.map_err(|error| StoreError::io("removing", path, error))
}
