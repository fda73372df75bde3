//! A state in memory that, like RocksDB without its own log, falls back to the
//! last flush when the process stops. A piece of what was flushed can be damaged:
//! whatever reads it is told so, as by RocksDB's checksums.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::StoreError;
use crate::plant::{Plant, Plants};
use crate::state::{Expired, Export, Import, Install, Meta, Sieve, State, Usage, Verdict, Version};
use crate::types::{Change, Entry, Event, ListQuery, Listing};
use crate::version;

/// The simulated state.
#[derive(Clone, Default)]
pub struct MemoryState {
    inner: Arc<Mutex<Inner>>,
    plants: Plants,
}

/// What holds together and has a checksum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A version of a key.
    Version(String, u64),
    /// Which key a revision is about.
    Revision(u64),
    /// The meta data.
    Meta,
}

#[derive(Default)]
struct Inner {
    /// What bits have flipped in, if they have.
    damaged: Option<Piece>,
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

/// What is said of a damaged piece.
fn damage(piece: &Piece) -> StoreError {
    StoreError::Damaged {
        file: "state".into(),
        offset: 0,
        reason: format!("the checksum of {piece:?} does not fit"),
    }
}

impl MemoryState {
    /// An empty one, whose readers make the planted mistake.
    pub fn new(plants: Plants) -> MemoryState {
        MemoryState {
            plants,
            ..MemoryState::default()
        }
    }

    /// All pieces that lie on the disk.
    pub fn pieces(&self) -> Vec<Piece> {
        let inner = self.lock();
        let flushed = &inner.flushed;
        let revisions = |(key, versions): (&String, &BTreeMap<u64, _>)| {
            let version = |revision: &u64| Piece::Version(key.clone(), *revision);
            versions.keys().map(version).collect::<Vec<_>>()
        };
        let versions = flushed.versions.iter().flat_map(revisions);
        let rows = flushed
            .revisions
            .keys()
            .map(|revision| Piece::Revision(*revision));
        let meta = flushed.meta.iter().map(|_| Piece::Meta);
        versions.chain(rows).chain(meta).collect()
    }

    /// A bit flips in a piece.
    pub fn flip(&self, piece: Piece) {
        let mut inner = self.lock();
        if !self.plants.has(Plant::TrustBytes) {
            inner.damaged = Some(piece);
        } else if let Piece::Version(key, revision) = &piece {
            inner.now.alter(key, *revision);
            inner.flushed.alter(key, *revision);
        }
    }

    /// What is damaged.
    pub fn damaged(&self) -> Option<Piece> {
        self.lock().damaged.clone()
    }

    /// What was damaged can be read after all.
    pub fn recover(&self) {
        self.lock().damaged = None;
    }

    /// Whether somebody gets to a damaged piece who reads those that `reads` says: an error, unless he takes that for
    /// the end of what there is (a planted mistake).
    fn meets(&self, inner: &Inner, reads: impl Fn(&Piece) -> bool) -> Result<bool, StoreError> {
        match inner.damaged.as_ref().filter(|piece| reads(piece)) {
            Some(_) if self.plants.has(Plant::EndAtDamage) => Ok(true),
            Some(piece) => Err(damage(piece)),
            None => Ok(false),
        }
    }

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

impl Piece {
    /// The key of the version that it is.
    fn key(&self) -> Option<&str> {
        match self {
            Piece::Version(key, _) => Some(key),
            _ => None,
        }
    }
}

impl Content {
    /// Changes one character of a version.
    fn alter(&mut self, key: &str, revision: u64) {
        let version = self
            .versions
            .get_mut(key)
            .and_then(|versions| versions.get_mut(&revision));
        if let Some(Some(entry)) = version {
            let mut text = entry.text.to_vec();
            text.iter_mut().rev().take(3).for_each(|byte| *byte ^= 4);
            *entry = Arc::new(Entry {
                text: text.into(),
                ..Entry::clone(entry)
            });
        }
    }

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
        let inner = self.lock();
        match self.meets(&inner, |piece| *piece == Piece::Meta)? {
            true => Ok(None),
            false => Ok(inner.now.meta.clone()),
        }
    }

    fn load(&self) -> Result<Vec<Arc<Entry>>, StoreError> {
        let inner = self.lock();
        let ended = self.meets(&inner, |piece| piece.key().is_some())?;
        let end = inner.damaged.as_ref().and_then(Piece::key).filter(|_| ended);
        let live = inner.now.live(u64::MAX);
        Ok(live
            .take_while(|entry| end.is_none_or(|end| entry.key.as_str() < end))
            .collect())
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
        // Written anew.
        inner.damaged.take_if(|piece| *piece == Piece::Meta);
        Ok(inner.now.meta.as_ref().map_or(0, |meta| meta.applied))
    }

    fn list_at(&self, query: &ListQuery, revision: u64) -> Result<Listing, StoreError> {
        let inner = self.lock();
        let after = query.after.as_deref().unwrap_or("");
        let wanted = |key: &str| key.starts_with(&query.prefix) && key > after;
        let ended = self.meets(&inner, |piece| piece.key().is_some_and(wanted))?;
        let end = inner.damaged.as_ref().and_then(Piece::key).filter(|_| ended);
        let mut entries: Vec<_> = inner
            .now
            .live(revision)
            .filter(|entry| wanted(&entry.key) && end.is_none_or(|end| entry.key.as_str() < end))
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
        let mut events = vec![];
        for (revision, key) in revisions.filter(|(revision, _)| **revision <= until) {
            // An event needs its version and the one before.
            let previous = |at: u64| inner.now.versions.get(key)?.range(..at).next_back();
            let reads = |piece: &Piece| match piece {
                Piece::Revision(at) => at == revision,
                Piece::Version(of, at) => {
                    let needed =
                        at == revision || previous(*revision).is_some_and(|(before, _)| before == at);
                    of == key && key.starts_with(prefix) && needed
                }
                Piece::Meta => false,
            };
            if events.len() >= limit || self.meets(&inner, reads)? {
                break;
            }
            if key.starts_with(prefix) {
                events.extend(inner.now.event(key, *revision).map(Arc::new));
            }
        }
        Ok(events)
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
        let mut inner = self.lock();
        let of = |key: &String| inner.now.revisions.range(..=compacted).any(|(_, of)| of == key);
        // What is taken for the end here leaves only more behind than it must.
        let ended = self.meets(&inner, |piece| match piece {
            Piece::Revision(revision) => *revision <= compacted,
            Piece::Version(key, _) => of(key),
            Piece::Meta => false,
        })?;
        if ended {
            return Ok(false);
        }
        let now = &mut inner.now;
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
        if inner.sick {
            // A copy of everything takes its place.
            self.meets(&inner, |piece| piece.key().is_some())?;
        }
        inner.sick = inner.refusals > 0;
        inner.refusals = inner.refusals.saturating_sub(1);
        Ok(())
    }

    fn export(&self) -> Result<Box<dyn Export>, StoreError> {
        let inner = self.lock();
        let ended = self.meets(&inner, |piece| piece.key().is_some());
        let end = inner.damaged.as_ref().and_then(Piece::key);
        let mut left: Vec<Version> = vec![];
        for (key, versions) in &inner.now.versions {
            if end == Some(key.as_str()) {
                break;
            }
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
        let end = ended.map(|_| ());
        Ok(Box::new(Copy { left, end }))
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
    /// What comes behind.
    end: Result<(), StoreError>,
}

impl Export for Copy {
    fn next(&mut self) -> Result<Vec<Version>, StoreError> {
        if self.left.is_empty() {
            std::mem::replace(&mut self.end, Ok(()))?;
        }
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
            inner.damaged = None;
            Ok(())
        }))
    }
}
