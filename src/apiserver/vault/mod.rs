//! The wall between objects and the store for what is kept encrypted: records go in sealed, entries come out opened.
//!
//! ```text
//! registry ─ plain text ─▶ Vault ─ sealed ─▶ store: log, state, backups, other members
//! ```
//!
//! The store knows nothing of it: a sealed record is another text, with its own place for the revision. What is opened
//! lives as long as the request that asked for it. Keys, labels and selectable fields stay readable, as they must be
//! for lists and watches.

mod configuration;
mod keys;
mod sealed;

use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock};

use store::{Entry, Event, ListQuery, Listing, Op, Outcome, Store, StoreError};

use configuration::Configuration;

/// A store in which some things are kept encrypted. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    // A std lock: nothing awaits while it is held.
    configuration: Arc<RwLock<Arc<Configuration>>>,
}

/// What concerns no records is asked of the store itself.
impl Deref for Vault {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl From<Store> for Vault {
    fn from(store: Store) -> Self {
        Self::open(store)
    }
}

impl Vault {
    /// A store in which nothing new is encrypted.
    pub fn open(store: Store) -> Self {
        Self {
            store,
            configuration: Arc::default(),
        }
    }

    fn configuration(&self) -> Arc<Configuration> {
        let current = self.configuration.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes by a configuration of this text from now on.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure_by(&self, text: &str) -> Result<(), String> {
        Configuration::parse(text).map(|new| self.configure(new))
    }

    /// Writes by this configuration from now on.
    fn configure(&self, new: Configuration) {
        let mut current = self.configuration.write().unwrap_or_else(PoisonError::into_inner);
        *current = Arc::new(new);
    }

    /// Commits operations, what they write sealed as the configuration wants it.
    ///
    /// # Errors
    /// The store's.
    pub async fn commit(&self, mut ops: Vec<Op>) -> Result<Vec<Outcome>, StoreError> {
        let configuration = self.configuration();
        for op in &mut ops {
            if let Op::Put { key, record, .. } = op
                && let Some(sealer) = configuration.sealer(key)
            {
                sealed::seal(record, key, sealer);
            }
        }
        let outcomes = match self.store.commit(ops).await {
            Err(StoreError::Precondition {
                index,
                current: Some(entry),
            }) => {
                let current = Some(sealed::open(&entry, &configuration)?);
                return Err(StoreError::Precondition { index, current });
            }
            other => other?,
        };
        let open = |entry: Arc<Entry>| sealed::open(&entry, &configuration);
        outcomes
            .into_iter()
            .map(|outcome| match outcome {
                Outcome::Put(entry) => open(entry).map(Outcome::Put),
                Outcome::Deleted(entry) => open(entry).map(Outcome::Deleted),
                Outcome::Unchanged => Ok(Outcome::Unchanged),
            })
            .collect()
    }

    /// [`Store::get`], opened.
    ///
    /// # Errors
    /// The store's, or that no key fits.
    pub async fn get(&self, key: &str) -> Result<Option<Arc<Entry>>, StoreError> {
        let entry = self.store.get(key).await?;
        entry
            .map(|entry| sealed::open(&entry, &self.configuration()))
            .transpose()
    }

    /// [`Store::list`], opened.
    ///
    /// # Errors
    /// The store's, or that no key fits.
    pub async fn list(&self, query: ListQuery) -> Result<Listing, StoreError> {
        let mut listing = self.store.list(query).await?;
        self.open_all(&mut listing.entries)?;
        Ok(listing)
    }

    fn open_all(&self, entries: &mut [Arc<Entry>]) -> Result<(), StoreError> {
        let configuration = self.configuration();
        for entry in entries.iter_mut().filter(|entry| sealed::is_sealed(entry)) {
            *entry = sealed::open(entry, &configuration)?;
        }
        Ok(())
    }

    /// [`Store::peek`], opened; nothing when no key fits.
    pub fn peek(&self, key: &str) -> Option<Arc<Entry>> {
        let entry = self.store.peek(key)?;
        let opened = sealed::open(&entry, &self.configuration());
        opened
            .inspect_err(|error| tracing::error!(%error, "an encrypted object cannot be read"))
            .ok()
    }

    /// [`Store::peek_prefix`], opened; without what no key fits.
    pub fn peek_prefix(&self, prefix: &str) -> (u64, Vec<Arc<Entry>>) {
        let (revision, mut entries) = self.store.peek_prefix(prefix);
        if entries.iter().any(|entry| sealed::is_sealed(entry)) {
            let configuration = self.configuration();
            let opened = |entry: &Arc<Entry>| {
                sealed::open(entry, &configuration)
                    .inspect_err(|error| tracing::error!(%error, "an encrypted object cannot be read"))
                    .ok()
            };
            entries = entries.iter().filter_map(opened).collect();
        }
        (revision, entries)
    }

    /// [`Store::watch`], opened.
    ///
    /// # Errors
    /// The store's.
    pub fn watch(&self, prefix: &str, from: u64) -> Result<Watch, StoreError> {
        Ok(Watch {
            watch: self.store.watch(prefix, from)?,
            vault: self.clone(),
        })
    }

    /// Whether an object is kept otherwise than the configuration wants it now, so that it is worth writing though
    /// nothing of it changes.
    pub fn is_stale(&self, key: &str) -> bool {
        let configuration = self.configuration();
        let entry = self.store.peek(key);
        entry.is_some_and(|entry| sealed::is_stale(&entry, &configuration))
    }
}

/// A watch whose entries are opened.
pub struct Watch {
    watch: store::Watch,
    vault: Vault,
}

impl Watch {
    /// The next event; see [`store::Watch::next`].
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        let event = self.watch.next().await?;
        Some(event.and_then(|event| self.open(event)))
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        let event = self.watch.try_next()?;
        Some(event.and_then(|event| self.open(event)))
    }

    /// See [`store::Watch::progress`].
    pub fn progress(&self) -> u64 {
        self.watch.progress()
    }

    fn open(&self, event: Arc<Event>) -> Result<Arc<Event>, StoreError> {
        let before = event.previous.as_ref();
        if !sealed::is_sealed(&event.entry) && !before.is_some_and(|entry| sealed::is_sealed(entry)) {
            return Ok(event);
        }
        let configuration = self.vault.configuration();
        let previous = before
            .map(|entry| sealed::open(entry, &configuration))
            .transpose()?;
        Ok(Arc::new(Event {
            revision: event.revision,
            kind: event.kind,
            entry: sealed::open(&event.entry, &configuration)?,
            previous,
        }))
    }
}

#[cfg(test)]
mod tests;
