//! A state in memory that, like RocksDB without its own log, falls back to the
//! last flush when the process stops.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::StoreError;
use crate::state::{Expired, Export, Import, Install, Meta, Sieve, State, Usage, Verdict, Version};
use crate::types::{Change, Entry, Event, ListQuery, Listing};
use crate::version;

/// The simulated state.
#[derive(Clone, Default)]
pub struct MemoryState {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    /// So many writes and flushes fail from now on, until it is renewed after them.
    refusals: u64,
    /// It has refused, and does so until it is renewed.
    sick: bool,
    now: Content,
    flushed: Content,
}

#[derive(Clone, Default)]
struct Content {
    versions: BTreeMap<String, BTreeMap<u64, Option<Arc<Entry>>>>,
    revisions: BTreeMap<u64, String>,
    meta: Option<Meta>,
}

impl MemoryState {
    /// The process stops and starts again.
    pub fn crash(&self) {
        let mut inner = self.lock();
        inner.now = inner.flushed.clone();
        (inner.refusals, inner.sick) = (0, false);
    }

    /// Refuses to write so often, from now on.
    pub fn refuse(&self, times: u64) {
        self.lock().refusals = times;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("a simulated state")
    }
}

impl Inner {
    /// Fails while the disk below takes nothing, and once it has failed until it is renewed.
    fn take(&mut self) -> Result<(), StoreError> {
        self.sick |= self.refusals > 0;
        self.refusals = self.refusals.saturating_sub(1);
        match self.sick {
            false => Ok(()),
            true => Err(StoreError::Io {
                what: "writing the state".into(),
                source: std::io::ErrorKind::StorageFull.into(),
            }),
        }
    }
}

impl Content {
    fn at(&self, key: &str, revision: u64) -> Option<Arc<Entry>> {
        self.versions.get(key)?.range(..=revision).next_back()?.1.clone()
    }

    fn live(&self, revision: u64) -> impl Iterator<Item = Arc<Entry>> + '_ {
        self.versions.keys().filter_map(move |key| self.at(key, revision))
    }

    fn event(&self, key: &str, revision: u64) -> Option<Event> {
        let previous = self.at(key, revision - 1);
        let (kind, entry) = match self.versions.get(key)?.get(&revision)? {
            Some(entry) => (Change::Put, entry.clone()),
            None => (Change::Delete, Arc::new(previous.as_ref()?.deleted(revision))),
        };
        Some(Event {
            revision,
            kind,
            entry,
            previous,
        })
    }
}

impl State for MemoryState {
    fn meta(&self) -> Result<Option<Meta>, StoreError> {
        Ok(self.lock().now.meta.clone())
    }

    fn load(&self) -> Result<Vec<Arc<Entry>>, StoreError> {
        Ok(self.lock().now.live(u64::MAX).collect())
    }

    fn write(&self, events: &[Arc<Event>], meta: &Meta) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.take()?;
        let now = &mut inner.now;
        for event in events {
            let version = (event.kind == Change::Put).then(|| event.entry.clone());
            let key = event.entry.key.clone();
            now.versions
                .entry(key.clone())
                .or_default()
                .insert(event.revision, version);
            now.revisions.insert(event.revision, key);
        }
        now.meta = Some(meta.clone());
        Ok(())
    }

    fn flush(&self) -> Result<u64, StoreError> {
        let mut inner = self.lock();
        inner.take()?;
        inner.flushed = inner.now.clone();
        Ok(inner.now.meta.as_ref().map_or(0, |meta| meta.applied))
    }

    fn list_at(&self, query: &ListQuery, revision: u64) -> Result<Listing, StoreError> {
        let inner = self.lock();
        let after = query.after.as_deref().unwrap_or("");
        let mut entries: Vec<_> = inner
            .now
            .live(revision)
            .filter(|entry| entry.key.starts_with(&query.prefix) && entry.key.as_str() > after)
            .collect();
        let limit = if query.limit == 0 {
            entries.len()
        } else {
            query.limit.min(entries.len())
        };
        let remaining = (entries.len() - limit) as u64;
        entries.truncate(limit);
        Ok(Listing {
            revision,
            entries,
            more: remaining > 0,
            remaining,
        })
    }

    fn events(
        &self,
        prefix: &str,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let inner = self.lock();
        let revisions = inner.now.revisions.range(after + 1..=until.max(after + 1));
        let wanted = revisions.filter(|(revision, key)| **revision <= until && key.starts_with(prefix));
        Ok(wanted
            .take(limit)
            .filter_map(|(r, key)| inner.now.event(key, *r).map(Arc::new))
            .collect())
    }

    fn expired(&self, now_ms: u64, limit: usize) -> Result<Expired, StoreError> {
        let inner = self.lock();
        let mut due: Vec<_> = inner
            .now
            .live(u64::MAX)
            .filter_map(|entry| Some((entry.expires_ms.filter(|at| *at <= now_ms)?, entry)))
            .collect();
        due.sort_by_key(|(at, entry)| (*at, entry.key.clone()));
        Ok(due
            .into_iter()
            .take(limit)
            .map(|(_, entry)| (entry.key.clone(), entry.revision))
            .collect())
    }

    fn sweep(&self, compacted: u64) -> Result<bool, StoreError> {
        let now = &mut self.lock().now;
        now.revisions = now.revisions.split_off(&(compacted + 1));
        for versions in now.versions.values_mut() {
            let newest = versions
                .range(..=compacted)
                .next_back()
                .map(|(r, v)| (*r, v.is_some()));
            if let Some((newest, live)) = newest {
                versions.retain(|revision, _| *revision > newest || (*revision == newest && live));
            }
        }
        now.versions.retain(|_, versions| !versions.is_empty());
        Ok(false)
    }

    fn usage(&self) -> Usage {
        Usage::default()
    }

    fn defragment(&self) -> Result<(), StoreError> {
        Ok(())
    }

    fn renew(&self) -> Result<(), StoreError> {
        let mut inner = self.lock();
        inner.sick = inner.refusals > 0;
        inner.refusals = inner.refusals.saturating_sub(1);
        Ok(())
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        let inner = self.lock();
        let mut left: Vec<Version> = vec![];
        for (key, versions) in &inner.now.versions {
            for (revision, entry) in versions.iter().rev() {
                let value = entry
                    .as_deref()
                    .map_or(version::encode_deleted().to_vec(), version::encode_live);
                left.push(Version {
                    key: key.clone(),
                    revision: *revision,
                    value: value.into(),
                });
            }
        }
        left.reverse();
        Ok(Box::new(Copy { left }))
    }

    fn import(&self) -> Result<Box<dyn Import>, StoreError> {
        Ok(Box::new(Incoming {
            target: self.clone(),
            content: Content::default(),
            sieve: Sieve::default(),
        }))
    }
}

/// What is left to hand out, in reverse.
struct Copy {
    left: Vec<Version>,
}

impl Export for Copy {
    fn next(&mut self) -> Result<Vec<Version>, StoreError> {
        let kept = self.left.len().saturating_sub(3);
        let mut portion = self.left.split_off(kept);
        portion.reverse();
        Ok(portion)
    }
}

struct Incoming {
    target: MemoryState,
    content: Content,
    sieve: Sieve,
}

impl Import for Incoming {
    fn add(&mut self, versions: Vec<Version>, compacted: u64) -> Result<(), StoreError> {
        for found in versions {
            let entry = version::decode(&found.key, found.revision, found.value.clone()).expect("a version");
            if self.sieve.judge(&found, entry.is_some(), compacted) == Verdict::Unreachable {
                continue;
            }
            if found.revision > compacted {
                self.content.revisions.insert(found.revision, found.key.clone());
            }
            let versions = self.content.versions.entry(found.key).or_default();
            versions.insert(found.revision, entry);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<Install, StoreError> {
        Ok(Box::new(move |meta| {
            let mut content = self.content;
            content.meta = Some(meta.clone());
            let mut inner = self.target.lock();
            (inner.now, inner.flushed) = (content.clone(), content);
            Ok(())
        }))
    }
}
