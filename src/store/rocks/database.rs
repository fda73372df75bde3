//! One RocksDB database with a state in it.
//!
//! Families: `data` (key ‖ 0 ‖ BE(!revision) → version, newest first), `revs`
//! (BE(revision) → key), `ttl` (BE(milliseconds) ‖ key → BE(revision)) and
//! `meta`. There is no write-ahead log, since the Raft log is one; the families
//! are flushed together, so that what is found after a crash is the state as it
//! was after some write.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rocksdb::{
    Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRawIterator, FlushOptions, Options, WriteBatch,
    WriteOptions,
};

use super::keys::{big_endian, current, data_key, malformed, past_key, reading, text, ttl_key, writing};
use super::tuning::{database_options, family_options, scan_options};
use crate::codec::Malformed;
use crate::error::StoreError;
use crate::state::{Expired, Meta, Sieve, Verdict, Version};
use crate::types::{Change, Entry, Event, ListQuery, Listing};
use crate::version;

pub(super) const FAMILIES: [&str; 4] = ["data", "revs", "ttl", "meta"];

const META: &[u8] = b"meta";
const SWEPT: &[u8] = b"swept";

/// Cache for blocks of all families together. Small: the latest entries are in
/// the watch cache, only history is read from here.
const BLOCK_CACHE_BYTES: usize = 1 << 20;
/// What a version takes in a batch beside its key, twice, and its text; roughly.
const VERSION_BYTES: usize = 128;
/// How many revisions one call of `sweep` looks at.
const SWEEP_REVISIONS: usize = 1000;

/// A database, open.
pub struct Database {
    pub(super) db: DB,
    unlogged: WriteOptions,
    /// Kept because the counters of what is written hang on them.
    pub(super) options: Options,
}

impl Database {
    /// Opens or makes the database in a folder.
    pub fn open(path: &Path) -> Result<Database, StoreError> {
        let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
        let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, family_options(&cache)));
        let options = database_options();
        let db = DB::open_cf_descriptors(&options, path, families).map_err(|source| StoreError::State {
            what: "opening the state",
            source,
        })?;
        let mut unlogged = WriteOptions::default();
        unlogged.disable_wal(true);
        Ok(Database {
            db,
            unlogged,
            options,
        })
    }

    pub(super) fn family(&self, name: &'static str) -> Result<&ColumnFamily, StoreError> {
        self.db
            .cf_handle(name)
            .ok_or_else(|| malformed(Malformed("a family is missing")))
    }

    /// The version of `key` that was the latest at `revision`: its revision and value.
    fn version_at(
        &self,
        versions: &mut DBRawIterator<'_>,
        key: &str,
        revision: u64,
    ) -> Result<Option<Arc<Entry>>, StoreError> {
        versions.seek(data_key(key, revision));
        match current(versions)? {
            Some((found, revision, value)) if found == key => {
                version::decode(key, revision, Bytes::copy_from_slice(value)).map_err(malformed)
            }
            _ => Ok(None),
        }
    }

    fn event(
        &self,
        versions: &mut DBRawIterator<'_>,
        key: &str,
        revision: u64,
    ) -> Result<Arc<Event>, StoreError> {
        let entry = self.version_at(versions, key, revision)?;
        let previous = self.version_at(versions, key, revision - 1)?;
        let (kind, entry) = match (entry, &previous) {
            (Some(entry), _) => (Change::Put, entry),
            (None, Some(previous)) => (Change::Delete, Arc::new(previous.deleted(revision))),
            (None, None) => return Err(malformed(Malformed("a deletion has nothing before it"))),
        };
        Ok(Arc::new(Event {
            revision,
            kind,
            entry,
            previous,
        }))
    }

    fn put_event(&self, batch: &mut WriteBatch, event: &Event) -> Result<(), StoreError> {
        let (data, ttl) = (self.family("data")?, self.family("ttl")?);
        let key = data_key(&event.entry.key, event.revision);
        match event.kind {
            Change::Put => batch.put_cf(data, key, version::encode_live(&event.entry)),
            Change::Delete => batch.put_cf(data, key, version::encode_deleted()),
        }
        batch.put_cf(
            self.family("revs")?,
            event.revision.to_be_bytes(),
            &event.entry.key,
        );
        if let Some((previous, at)) = event.previous.as_ref().and_then(|p| Some((p, p.expires_ms?))) {
            batch.delete_cf(ttl, ttl_key(at, &previous.key));
        }
        if let Some(at) = event.entry.expires_ms {
            batch.put_cf(ttl, ttl_key(at, &event.entry.key), event.revision.to_be_bytes());
        }
        Ok(())
    }

    /// Deletes the versions of `key` that nobody can see at or after `compacted`.
    fn sweep_key(
        &self,
        batch: &mut WriteBatch,
        versions: &mut DBRawIterator<'_>,
        key: &str,
        compacted: u64,
    ) -> Result<(), StoreError> {
        let data = self.family("data")?;
        versions.seek(data_key(key, compacted));
        let mut newest = true;
        while let Some((found, _, value)) = current(versions)? {
            if found != key {
                break;
            }
            let keep = newest && !version::is_deleted(value).map_err(malformed)?;
            if let (false, Some(raw)) = (keep, versions.key()) {
                batch.delete_cf(data, raw);
            }
            newest = false;
            versions.next();
        }
        Ok(())
    }

    fn swept(&self) -> Result<u64, StoreError> {
        let value = self.db.get_cf(self.family("meta")?, SWEPT).map_err(reading)?;
        value.map_or(Ok(0), |value| big_endian(&value))
    }
}

/// What [`State`](crate::state::State) asks for; the documentation is there.
#[allow(missing_docs, reason = "documented in the trait")]
impl Database {
    pub fn meta(&self) -> Result<Option<Meta>, StoreError> {
        let value = self.db.get_cf(self.family("meta")?, META).map_err(reading)?;
        value.map(|value| Meta::decode(value.into())).transpose()
    }

    pub fn load(&self) -> Result<Vec<Arc<Entry>>, StoreError> {
        let mut versions = self.db.raw_iterator_cf_opt(self.family("data")?, scan_options());
        let mut entries: Vec<Arc<Entry>> = vec![];
        let mut seen = String::new();
        versions.seek_to_first();
        while let Some((key, revision, value)) = current(&versions)? {
            if key != seen {
                let value = Bytes::copy_from_slice(value);
                entries.extend(version::decode(key, revision, value).map_err(malformed)?);
                seen = key.to_owned();
            }
            versions.next();
        }
        Ok(entries)
    }

    pub fn write(&self, events: &[Arc<Event>], meta: &Meta) -> Result<(), StoreError> {
        let size = |event: &Arc<Event>| event.entry.text.len() + 2 * event.entry.key.len() + VERSION_BYTES;
        // Memory at once: else it is copied each time that it doubles.
        let mut batch = WriteBatch::with_capacity_bytes(events.iter().map(size).sum());
        for event in events {
            self.put_event(&mut batch, event)?;
        }
        batch.put_cf(self.family("meta")?, META, meta.encode());
        self.db.write_opt(batch, &self.unlogged).map_err(writing)
    }

    pub fn flush(&self) -> Result<u64, StoreError> {
        // Everything written before the flush begins is covered by it.
        let applied = self.meta()?.map_or(0, |meta| meta.applied);
        let mut families = Vec::with_capacity(FAMILIES.len());
        for name in FAMILIES {
            families.push(self.family(name)?);
        }
        let mut options = FlushOptions::default();
        options.set_wait(true);
        self.db
            .flush_cfs_opt(&families, &options)
            .map_err(|source| StoreError::State {
                what: "flushing the state",
                source,
            })?;
        Ok(applied)
    }

    pub fn list_at(&self, query: &ListQuery, revision: u64) -> Result<Listing, StoreError> {
        let mut versions = self.db.raw_iterator_cf_opt(self.family("data")?, scan_options());
        let mut listing = Listing {
            revision,
            ..Listing::default()
        };
        match query
            .after
            .as_ref()
            .filter(|after| after.as_str() >= query.prefix.as_str())
        {
            Some(after) => versions.seek(past_key(after)),
            None => versions.seek(&query.prefix),
        }
        while let Some((key, found, value)) = current(&versions)? {
            if !key.starts_with(&query.prefix) {
                break;
            }
            if found > revision {
                let wanted = data_key(key, revision);
                versions.seek(wanted);
                continue;
            }
            if query.limit > 0 && listing.entries.len() >= query.limit {
                listing.remaining += u64::from(!version::is_deleted(value).map_err(malformed)?);
            } else {
                let value = Bytes::copy_from_slice(value);
                listing
                    .entries
                    .extend(version::decode(key, found, value).map_err(malformed)?);
            }
            let next = past_key(key);
            versions.seek(next);
        }
        listing.more = listing.remaining > 0;
        Ok(listing)
    }

    pub fn events(
        &self,
        prefix: &str,
        after: u64,
        until: u64,
        limit: usize,
    ) -> Result<Vec<Arc<Event>>, StoreError> {
        let mut revisions = self.db.raw_iterator_cf_opt(self.family("revs")?, scan_options());
        let mut versions = self.db.raw_iterator_cf_opt(self.family("data")?, scan_options());
        let mut events = vec![];
        revisions.seek((after + 1).to_be_bytes());
        while let (true, Some((revision, key))) = (events.len() < limit, revisions.item()) {
            let (revision, key) = (big_endian(revision)?, text(key)?);
            if revision > until {
                break;
            }
            if key.starts_with(prefix) {
                events.push(self.event(&mut versions, key, revision)?);
            }
            revisions.next();
        }
        revisions.status().map_err(reading)?;
        Ok(events)
    }

    pub fn expired(&self, now_ms: u64, limit: usize) -> Result<Expired, StoreError> {
        let mut due = self.db.raw_iterator_cf_opt(self.family("ttl")?, scan_options());
        let mut expired = vec![];
        due.seek_to_first();
        while let (true, Some((raw, revision))) = (expired.len() < limit, due.item()) {
            let (at, key) = raw
                .split_at_checked(8)
                .ok_or_else(|| malformed(Malformed("ttl key is too short")))?;
            if big_endian(at)? > now_ms {
                break;
            }
            expired.push((text(key)?.to_owned(), big_endian(revision)?));
            due.next();
        }
        due.status().map_err(reading)?;
        Ok(expired)
    }

    pub fn sweep(&self, compacted: u64) -> Result<bool, StoreError> {
        let revs = self.family("revs")?;
        let mut revisions = self.db.raw_iterator_cf_opt(revs, scan_options());
        let mut versions = self.db.raw_iterator_cf_opt(self.family("data")?, scan_options());
        let mut batch = WriteBatch::default();
        let mut keys = HashSet::new();
        let mut swept = self.swept()?;
        revisions.seek((swept + 1).to_be_bytes());
        for _ in 0..SWEEP_REVISIONS {
            let Some((raw, key)) = revisions.item() else { break };
            let revision = big_endian(raw)?;
            if revision > compacted {
                break;
            }
            let key = text(key)?;
            if keys.insert(key.to_owned()) {
                self.sweep_key(&mut batch, &mut versions, key, compacted)?;
            }
            batch.delete_cf(revs, raw);
            swept = revision;
            revisions.next();
        }
        revisions.status().map_err(reading)?;
        if batch.is_empty() {
            return Ok(false);
        }
        batch.put_cf(self.family("meta")?, SWEPT, swept.to_be_bytes());
        self.db.write_opt(batch, &self.unlogged).map_err(writing)?;
        Ok(swept < compacted)
    }

    /// Hands out every version as of the moment when `begun` is called, in
    /// portions of about `bytes`, until `take` returns false.
    pub fn copy(
        &self,
        bytes: usize,
        begun: impl FnOnce(),
        mut take: impl FnMut(Vec<Version>) -> bool,
    ) -> Result<(), StoreError> {
        let snapshot = self.db.snapshot();
        begun();
        let mut versions = snapshot.raw_iterator_cf_opt(self.family("data")?, scan_options());
        let (mut portion, mut weight) = (vec![], 0);
        versions.seek_to_first();
        while let Some((key, revision, value)) = current(&versions)? {
            weight += key.len() + value.len() + 16;
            portion.push(Version {
                key: key.to_owned(),
                revision,
                value: Bytes::copy_from_slice(value),
            });
            if weight >= bytes {
                weight = 0;
                if !take(std::mem::take(&mut portion)) {
                    return Ok(());
                }
            }
            versions.next();
        }
        if !portion.is_empty() {
            take(portion);
        }
        Ok(())
    }

    /// Takes in versions of another member's copy, compacted up to `compacted`.
    pub fn add(&self, versions: Vec<Version>, compacted: u64, sieve: &mut Sieve) -> Result<(), StoreError> {
        let (data, revs, ttl) = (self.family("data")?, self.family("revs")?, self.family("ttl")?);
        let mut batch = WriteBatch::default();
        for version in versions {
            let entry = version::decode(&version.key, version.revision, version.value.clone());
            let entry = entry.map_err(malformed)?;
            let verdict = sieve.judge(&version, entry.is_some(), compacted);
            let Version { key, revision, value } = version;
            if verdict == Verdict::Unreachable {
                continue;
            }
            let expires = entry.and_then(|entry| entry.expires_ms);
            if let (Verdict::Latest, Some(at)) = (verdict, expires) {
                batch.put_cf(ttl, ttl_key(at, &key), revision.to_be_bytes());
            }
            if revision > compacted {
                batch.put_cf(revs, revision.to_be_bytes(), &key);
            }
            batch.put_cf(data, data_key(&key, revision), value);
        }
        batch.put_cf(self.family("meta")?, SWEPT, compacted.to_be_bytes());
        self.db.write_opt(batch, &self.unlogged).map_err(writing)
    }
}
