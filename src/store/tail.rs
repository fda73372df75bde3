//! The part of the log that Raft may still ask for, in memory.
//!
//! What is applied and synced is dropped here, at once if there are no peers
//! that might lag behind; the files keep it until the state is flushed. A
//! witness that leads, for it hands over what others lack, reads further back
//! from the files.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{GetEntriesContext, RaftState, Storage, StorageError};

use crate::state::Meta;

/// A handle on the tail: Raft reads through one, the member appends through another.
#[derive(Clone)]
pub struct Tail {
    // A std mutex: both handles live on one thread, nothing awaits.
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    hard: HardState,
    members: ConfState,
    /// Index and term of the entry before the first one kept.
    before: (u64, u64),
    entries: VecDeque<Entry>,
    bytes: usize,
    /// What a snapshot made now would be of: index and term.
    applied: (u64, u64),
    /// Where older entries are, for a witness, which makes no snapshots.
    archive: Option<Arc<dyn Archive>>,
    /// The entry before all that the archive may have, as far as its term is known.
    floor: (u64, u64),
    /// The first index that can be had from the archive, while it is open.
    deep: Option<u64>,
    /// What was read from the archive last.
    read: RefCell<Vec<Entry>>,
}

/// Older entries than those in memory.
pub trait Archive: Send + Sync {
    /// The entry of this index and neighbours of it, without gaps; `None` if it is not there.
    fn around(&self, index: u64) -> Option<Vec<Entry>>;
    /// The lowest index that is there.
    fn oldest(&self) -> u64;
}

impl Tail {
    /// The tail as recovered: `entries` follow the one at `before` (index and term).
    pub fn new(hard: HardState, members: ConfState, before: (u64, u64), entries: Vec<Entry>) -> Tail {
        let bytes = entries.iter().map(weight).sum();
        let inner = Inner {
            hard,
            members,
            before,
            entries: entries.into(),
            bytes,
            applied: before,
            archive: None,
            floor: (0, 0),
            deep: None,
            read: RefCell::default(),
        };
        Tail {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    /// From now on older entries can be had from an archive. `floor` is the entry before all of them, if
    /// its term is known.
    pub fn attach(&self, archive: Arc<dyn Archive>, floor: (u64, u64)) {
        let mut inner = self.lock();
        (inner.archive, inner.floor) = (Some(archive), floor);
    }

    /// Opens the archive, or closes it.
    pub fn open_archive(&self, open: bool) {
        let mut inner = self.lock();
        if inner.deep.is_some() == open {
            return;
        }
        let first = inner
            .archive
            .as_ref()
            .filter(|_| open)
            .map(|archive| archive.oldest());
        // What comes before the first entry handed out must be known by its term.
        let first = first.map(|first| {
            if first == inner.floor.0 + 1 {
                first
            } else {
                first + 1
            }
        });
        inner.deep = first.filter(|first| *first <= inner.before.0);
        inner.read.take();
    }

    /// Adds entries; one at an index that exists replaces it and all after it.
    pub fn append(&self, entries: &[Entry]) {
        let mut inner = self.lock();
        for entry in entries {
            while inner.last_index() >= entry.index && inner.drop_last() {}
            inner.bytes += weight(entry);
            inner.entries.push_back(entry.clone());
        }
    }

    /// Notes how far the state is, of which snapshots are made.
    pub fn applied(&self, meta: &Meta) {
        let mut inner = self.lock();
        inner.applied = (meta.applied, meta.applied_term);
        inner.members.clone_from(&meta.members);
    }

    /// Begins anew after an entry that a snapshot holds.
    pub fn restart(&self, index: u64, term: u64) {
        let mut inner = self.lock();
        inner.entries.clear();
        inner.bytes = 0;
        inner.before = (index, term);
        inner.floor = inner.before;
    }

    /// Drops entries up to `index`, but keeps the latest `keep_bytes` of them.
    pub fn trim(&self, index: u64, keep_bytes: usize) {
        let mut inner = self.lock();
        while inner.bytes > keep_bytes && inner.entries.front().is_some_and(|entry| entry.index <= index) {
            if let Some(entry) = inner.entries.pop_front() {
                inner.bytes -= weight(&entry);
                inner.before = (entry.index, entry.term);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Inner {
    fn last_index(&self) -> u64 {
        self.before.0 + self.entries.len() as u64
    }

    fn drop_last(&mut self) -> bool {
        let dropped = self.entries.pop_back();
        self.bytes -= dropped.as_ref().map_or(0, weight);
        dropped.is_some()
    }

    /// Entries from the archive, from `low` on and up to `high` at most, which is not included.
    fn old(&self, low: u64, high: u64) -> raft::Result<Vec<Entry>> {
        let compacted = || StorageError::Compacted;
        // Of the first, only the term may be asked for, by who offers what follows it.
        let first = self.deep.ok_or_else(compacted)? - 1;
        let archive = self
            .archive
            .as_ref()
            .filter(|_| low >= first)
            .ok_or_else(compacted)?;
        let mut read = self.read.borrow_mut();
        let has = |read: &[Entry]| {
            let (first, last) = (read.first()?.index, read.last()?.index);
            (first..=last).contains(&low).then(|| low - first)
        };
        if has(&read).is_none() {
            *read = archive.around(low).ok_or_else(compacted)?;
        }
        let from = has(&read).ok_or_else(compacted)?;
        let found = read.iter().skip(from as usize);
        Ok(found.take_while(|entry| entry.index < high).cloned().collect())
    }

    fn at(&self, index: u64) -> Option<&Entry> {
        self.entries
            .get(usize::try_from(index.checked_sub(self.before.0 + 1)?).ok()?)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match index {
            _ if index == self.before.0 => Ok(self.before.1),
            _ if index < self.before.0 && self.deep.is_some() && index == self.floor.0 => Ok(self.floor.1),
            _ if index < self.before.0 => {
                let found = self.old(index, index + 1)?;
                found
                    .first()
                    .map(|entry| entry.term)
                    .ok_or(StorageError::Compacted.into())
            }
            _ => self
                .at(index)
                .map(|entry| entry.term)
                .ok_or(StorageError::Unavailable.into()),
        }
    }
}

impl Storage for Tail {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let inner = self.lock();
        Ok(RaftState {
            hard_state: inner.hard.clone(),
            conf_state: inner.members.clone(),
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let inner = self.lock();
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        if low <= inner.before.0 {
            let old = inner.old(low, high.min(inner.before.0 + 1))?;
            return Ok(bounded(old, bytes_max));
        }
        let (mut found, mut bytes) = (vec![], 0);
        for index in low..high {
            let entry = inner.at(index).ok_or(StorageError::Unavailable)?;
            bytes += weight(entry) as u64;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        self.lock().term(index)
    }

    fn first_index(&self) -> raft::Result<u64> {
        let inner = self.lock();
        Ok(inner.deep.unwrap_or(inner.before.0 + 1))
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.lock().last_index())
    }

    /// Only what a snapshot is about; whoever sends it adds the state itself.
    fn snapshot(&self, request: u64, _: u64) -> raft::Result<Snapshot> {
        let inner = self.lock();
        let (index, term) = inner.applied;
        // A witness has no state to send.
        if inner.archive.is_some() || index == 0 || index < request {
            return Err(StorageError::SnapshotTemporarilyUnavailable.into());
        }
        let metadata = SnapshotMetadata {
            index,
            term,
            conf_state: Some(inner.members.clone()),
        };
        Ok(Snapshot {
            metadata: Some(metadata),
            ..Snapshot::default()
        })
    }
}

/// As many of the first as have room, and one at least.
fn bounded(mut entries: Vec<Entry>, bytes_max: u64) -> Vec<Entry> {
    let mut bytes = 0;
    let over = entries.iter().position(|entry| {
        bytes += weight(entry) as u64;
        bytes > bytes_max
    });
    entries.truncate(over.map_or(entries.len(), |at| at.max(1)));
    entries
}

fn weight(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry {
            index,
            term,
            data: vec![0; 36],
            ..Entry::default()
        }
    }

    fn term_of(tail: &Tail, index: u64) -> Option<u64> {
        tail.term(index).ok()
    }

    fn tail() -> Tail {
        let entries = (4..=6).map(|index| entry(index, 2)).collect();
        Tail::new(HardState::default(), ConfState::default(), (3, 1), entries)
    }

    fn all(tail: &Tail, low: u64, high: u64, bytes_max: u64) -> Option<Vec<u64>> {
        let found = tail
            .entries(low, high, bytes_max, GetEntriesContext::empty(false))
            .ok()?;
        Some(found.iter().map(|entry| entry.index).collect())
    }

    #[test]
    fn conflicting_entries_replace_the_rest() {
        let tail = tail();
        tail.append(&[entry(5, 3)]);
        assert_eq!(tail.last_index().ok(), Some(5));
        assert_eq!(
            (term_of(&tail, 4), term_of(&tail, 5), term_of(&tail, 6)),
            (Some(2), Some(3), None)
        );
    }

    #[test]
    fn trimming_remembers_the_term_before() {
        let tail = tail();
        tail.trim(5, 0);
        assert_eq!(
            (tail.first_index().ok(), term_of(&tail, 5), term_of(&tail, 4)),
            (Some(6), Some(2), None)
        );
        tail.trim(6, 1000);
        assert_eq!(tail.first_index().ok(), Some(6), "kept for peers that lag");
    }

    /// Entries 1 to 3 on the disk, of term 1.
    struct Old;

    impl Archive for Old {
        fn around(&self, index: u64) -> Option<Vec<Entry>> {
            (1..=3)
                .contains(&index)
                .then(|| (1..=3).map(|index| entry(index, 1)).collect())
        }

        fn oldest(&self) -> u64 {
            1
        }
    }

    #[test]
    fn the_archive_is_read_while_it_is_open_and_no_further_than_terms_are_known() {
        let tail = tail();
        tail.attach(Arc::new(Old), (0, 0));
        assert_eq!((tail.first_index().ok(), term_of(&tail, 2)), (Some(4), None));
        assert!(tail.snapshot(0, 2).is_err());
        tail.open_archive(true);
        assert_eq!((tail.first_index().ok(), term_of(&tail, 0)), (Some(1), Some(0)));
        assert_eq!((term_of(&tail, 2), term_of(&tail, 3)), (Some(1), Some(1)));
        assert_eq!(all(&tail, 1, 7, 250), Some(vec![1, 2]));
        assert_eq!(
            all(&tail, 3, 7, 1000),
            Some(vec![3]),
            "the rest is asked for next"
        );
        tail.open_archive(false);
        assert_eq!(all(&tail, 1, 7, 250), None);
        // The log began after entry 0 of an unknown term: 1 is good for its term alone.
        tail.attach(Arc::new(Old), (7, 7));
        tail.open_archive(true);
        assert_eq!((tail.first_index().ok(), term_of(&tail, 1)), (Some(2), Some(1)));
        assert_eq!(
            (all(&tail, 1, 7, 250), term_of(&tail, 0)),
            (Some(vec![1, 2]), None)
        );
    }

    #[test]
    fn reads_are_bounded_but_never_empty() {
        assert_eq!(all(&tail(), 4, 7, 250), Some(vec![4, 5]));
        assert_eq!(all(&tail(), 4, 7, 1), Some(vec![4]));
        assert_eq!(all(&tail(), 3, 7, 1), None);
    }
}
