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
mod kms;
mod missing;
mod sealed;
mod tend;

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use base::telemetry::Metrics;
use base::{Clock, SystemClock};
use store::{Entry, Event, Expect, ListQuery, Listing, Op, Outcome, Store, StoreError};

use configuration::Configuration;
pub(crate) use keys::Key;
use kms::remote::{self, Socket};
use kms::series::Series;
use kms::{Kms, ToldKms};
use missing::Missing;

use crate::metrics::{Operation, StoreCalls};

/// A store in which some things are kept encrypted. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    store: Store,
    // Std locks: nothing awaits while one is held.
    configuration: Arc<RwLock<Arc<Configuration>>>,
    /// One that waits until its plugins are well.
    next: Arc<Mutex<Option<Arc<Configuration>>>>,
    /// What could not be read for want of a seed.
    missing: Arc<Missing>,
    series: Series,
    calls: StoreCalls,
    clock: Arc<dyn Clock>,
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
            next: Arc::default(),
            missing: Arc::default(),
            series: Series::default(),
            calls: StoreCalls::default(),
            clock: Arc::new(SystemClock::new()),
        }
    }

    /// The same, measured.
    pub fn measured(store: Store, metrics: &Metrics, clock: Arc<dyn Clock>) -> Self {
        Self {
            series: Series::new(metrics),
            calls: StoreCalls::new(metrics),
            clock,
            ..Self::open(store)
        }
    }

    fn configuration(&self) -> Arc<Configuration> {
        let current = self.configuration.read();
        current.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes by a configuration of this text from now on; one with plugins as soon as they are well, see
    /// [`Vault::tend`].
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn configure_by(&self, text: &str) -> Result<(), String> {
        let new = Configuration::parse(text, &|told| self.plug(told))?;
        if new.plugins().next().is_none() {
            self.configure(new);
        } else {
            new.plugins().for_each(|kms| kms.look_soon());
            *self.next() = Some(Arc::new(new));
            self.missing.wake();
        }
        Ok(())
    }

    /// The plugin that a configuration tells of; one that was told of before in the same words goes on.
    fn plug(&self, told: &ToldKms) -> Result<Arc<Kms>, String> {
        let (current, next) = (self.configuration(), self.next().clone());
        let known = [Some(current), next].into_iter().flatten();
        for configuration in known {
            if let Some(kms) = configuration.plugins().find(|kms| kms.told == *told) {
                return Ok(kms.clone());
            }
        }
        let (path, patience) = (remote::path(&told.endpoint)?, told.patience()?);
        let socket = Socket::new(&told.name, &path, patience, self.series.clone());
        let made = Kms::new(
            told.clone(),
            Box::new(socket),
            self.series.clone(),
            self.clock.clone(),
        );
        Ok(Arc::new(made))
    }

    /// Writes by this configuration from now on.
    fn configure(&self, new: impl Into<Arc<Configuration>>) {
        // Whatever still waits was said before.
        *self.next() = None;
        let mut current = self.configuration.write().unwrap_or_else(PoisonError::into_inner);
        *current = new.into();
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
                sealed::seal(record, key, sealer)?;
            }
        }
        let begun = ops.first().map(|op| self.calls.begin(operation(op), op.key()));
        let committed = self.store.commit(ops).await;
        // That somebody else was first is an answer like any other.
        let well = matches!(committed, Ok(_) | Err(StoreError::Precondition { .. }));
        begun.into_iter().for_each(|begun| begun.ended(well));
        let outcomes = match committed {
            Err(StoreError::Precondition {
                index,
                current: Some(entry),
            }) => {
                self.learn(std::iter::once(&entry)).await?;
                let current = Some(sealed::open(&entry, &configuration)?);
                return Err(StoreError::Precondition { index, current });
            }
            other => other?,
        };
        let written = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Put(entry) | Outcome::Deleted(entry) => Some(entry),
            Outcome::Unchanged => None,
        });
        self.learn(written).await?;
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
        let begun = self.calls.begin(Operation::Get, key);
        let entry = self.store.get(key).await;
        begun.ended(entry.is_ok());
        let entry = entry?;
        self.learn(entry.iter()).await?;
        entry
            .map(|entry| sealed::open(&entry, &self.configuration()))
            .transpose()
    }

    /// [`Store::list`], opened.
    ///
    /// # Errors
    /// The store's, or that no key fits.
    pub async fn list(&self, query: ListQuery) -> Result<Listing, StoreError> {
        let begun = self.calls.begin(Operation::List, &query.prefix);
        let listing = self.store.list(query).await;
        begun.ended(listing.is_ok());
        let mut listing = listing?;
        self.learn(listing.entries.iter()).await?;
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
        self.open_now(&entry, &self.configuration())
    }

    /// An entry that is opened without waiting for anybody; what cannot be may be another time.
    fn open_now(&self, entry: &Arc<Entry>, configuration: &Configuration) -> Option<Arc<Entry>> {
        if let Some((kms, source)) = sealed::seed(entry, configuration).filter(|(kms, seed)| !kms.knows(seed))
        {
            self.missing.note(kms.clone(), source);
        }
        sealed::open(entry, configuration)
            .inspect_err(|error| tracing::error!(%error, "an encrypted object cannot be read"))
            .ok()
    }

    /// [`Store::peek_prefix`], opened; without what no key fits.
    pub fn peek_prefix(&self, prefix: &str) -> (u64, Vec<Arc<Entry>>) {
        let (revision, mut entries) = self.store.peek_prefix(prefix);
        if entries.iter().any(|entry| sealed::is_sealed(entry)) {
            let configuration = self.configuration();
            let opened = |entry: &Arc<Entry>| self.open_now(entry, &configuration);
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
            sealed: None,
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

/// What an operation is counted as; a commit as its first.
fn operation(op: &Op) -> Operation {
    match op {
        Op::Put {
            expect: Expect::Absent,
            ..
        } => Operation::Create,
        Op::Put { .. } => Operation::Update,
        Op::Delete { .. } => Operation::Delete,
    }
}

/// A watch whose entries are opened.
pub struct Watch {
    watch: store::Watch,
    vault: Vault,
    /// An event that waits for a seed.
    sealed: Option<Arc<Event>>,
}

impl Watch {
    /// The next event; see [`store::Watch::next`].
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        if self.sealed.is_none() {
            match self.watch.next().await? {
                Ok(event) => self.sealed = Some(event),
                Err(error) => return Some(Err(error)),
            }
        }
        // It stays where it is while this waits: whoever gives up waiting must not lose it.
        let event = self.sealed.clone()?;
        let learned = self.vault.learn(entries(&event)).await;
        self.sealed = None;
        Some(learned.and_then(|()| self.open(event)))
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        if self.sealed.is_some() {
            return None;
        }
        let event = match self.watch.try_next()? {
            Ok(event) => event,
            Err(error) => return Some(Err(error)),
        };
        if self.vault.waits_for_seeds(&event) {
            self.sealed = Some(event);
            return None;
        }
        Some(self.open(event))
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

/// What an event carries.
fn entries(event: &Event) -> impl Iterator<Item = &Arc<Entry>> {
    [Some(&event.entry), event.previous.as_ref()]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests;
