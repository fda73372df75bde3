//! What every implementation of [`State`] must do, as one suite for all.

use std::collections::BTreeMap;

use base::{Random, SeededRandom};

use super::*;
use crate::rocks::Rocks;
use crate::simulator::memory::MemoryState;
use crate::types::{Change, Record};

mod damage;

/// Both implementations, fed with the same random events, must answer alike.
struct Pair {
    rocks: Rocks,
    memory: MemoryState,
    meta: Meta,
    current: BTreeMap<String, Arc<Entry>>,
    random: SeededRandom,
}

fn made(path: &std::path::Path) -> Rocks {
    std::fs::create_dir_all(path).expect("a folder");
    Rocks::open(path).expect("a database")
}

impl Pair {
    fn new(path: &std::path::Path, seed: u64) -> Pair {
        Pair {
            rocks: made(path),
            memory: MemoryState::default(),
            meta: Meta::default(),
            current: BTreeMap::new(),
            random: SeededRandom::new(seed),
        }
    }

    fn change(&mut self) -> Option<Arc<Event>> {
        let key = format!("/g/k{}/n{}", self.random.below(3), self.random.below(9));
        let revision = self.meta.revision + 1;
        let previous = self.current.get(&key).cloned();
        if self.random.below(4) == 0 {
            let previous = previous?;
            self.current.remove(&key);
            let entry = Arc::new(previous.deleted(revision));
            return Some(Arc::new(Event {
                revision,
                kind: Change::Delete,
                entry,
                previous: Some(previous),
            }));
        }
        let record = Record {
            text: format!("{{\"\",{}}}", self.random.hex(4)).into(),
            revision_at: 2,
            ttl_seconds: (self.random.below(3) == 0).then_some(self.random.below(5) as u32),
            ..Record::default()
        };
        let entry = Arc::new(Entry::written(
            key.clone(),
            record,
            revision,
            previous.as_deref(),
            1000,
        ));
        self.current.insert(key, entry.clone());
        Some(Arc::new(Event {
            revision,
            kind: Change::Put,
            entry,
            previous,
        }))
    }

    fn write(&mut self, count: usize) {
        let mut events = vec![];
        while events.len() < count {
            if let Some(event) = self.change() {
                self.meta.revision = event.revision;
                events.push(event);
            }
        }
        self.meta.applied += 1;
        for state in [&self.rocks as &dyn State, &self.memory] {
            state.write(&events, &self.meta).expect("a write");
        }
    }

    fn compact(&mut self) {
        self.meta.compacted += self.random.below(self.meta.revision - self.meta.compacted + 1);
        for state in [&self.rocks as &dyn State, &self.memory] {
            state.write(&[], &self.meta).expect("a write");
            while state.sweep(self.meta.compacted).expect("a sweep") {}
        }
    }

    /// Compares the two by everything that one can ask.
    fn compare(&self) {
        let (rocks, memory) = (&self.rocks, &self.memory);
        assert_eq!(rocks.meta().ok(), memory.meta().ok());
        let all: Vec<_> = self.current.values().cloned().collect();
        assert_eq!(rocks.load().ok(), Some(all.clone()));
        assert_eq!(memory.load().ok(), Some(all));
        let span = self.meta.revision - self.meta.compacted;
        for _ in 0..20 {
            let revision = self.meta.compacted + self.random.below(span + 1);
            let query = ListQuery {
                prefix: ["", "/g/k1/", "/g/k2/n3"][self.random.below(3) as usize].into(),
                after: (self.random.below(2) == 0).then(|| format!("/g/k{}/n4", self.random.below(3))),
                limit: self.random.below(6) as usize,
                revision: None,
            };
            assert_eq!(
                rocks.list_at(&query, revision).ok(),
                memory.list_at(&query, revision).ok()
            );
            let (until, limit) = (
                revision + self.random.below(30),
                1 + self.random.below(9) as usize,
            );
            let asked = |state: &dyn State| state.events(&query.prefix, revision, until, limit).ok();
            assert_eq!(asked(rocks), asked(memory));
            let now_ms = self.random.below(7000);
            let sorted = |state: &dyn State| state.expired(now_ms, 100).ok();
            assert_eq!(sorted(rocks), sorted(memory));
        }
    }
}

#[test]
fn rocksdb_and_memory_answer_alike() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut pair = Pair::new(&folder.path().join("store"), 42);
    for round in 0..30 {
        let count = 1 + pair.random.below(12) as usize;
        pair.write(count);
        if round % 5 == 4 {
            pair.compact();
        }
        if round % 7 == 6 {
            assert_eq!(pair.rocks.flush().ok(), Some(pair.meta.applied));
        }
        pair.compare();
    }
}

#[test]
fn a_killed_process_finds_the_state_as_it_was_after_some_write() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut pair = Pair::new(&folder.path().join("store"), 7);
    pair.write(5);
    assert_eq!(pair.rocks.flush().ok(), Some(1));
    let listing = pair.memory.list_at(&ListQuery::default(), 5).expect("a listing");
    // What a kill leaves: the files as they are, without what is in memory.
    let copy = folder.path().join("copy");
    pair.write(3);
    std::fs::create_dir_all(copy.join("state")).expect("a folder");
    for file in std::fs::read_dir(folder.path().join("store/state")).expect("files") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), copy.join("state").join(file.file_name())).expect("a copy");
    }
    let found = Rocks::open(&copy).expect("a database");
    assert_eq!(
        found
            .meta()
            .expect("meta")
            .map(|meta| (meta.applied, meta.revision)),
        Some((1, 5))
    );
    assert_eq!(found.load().ok(), Some(listing.entries));
}

/// Each takes the other's copy, made while writing went on, and then is as the other was.
#[test]
fn copies_pass_between_rocksdb_and_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut pair = Pair::new(&folder.path().join("one"), 3);
    (0..12).for_each(|_| pair.write(5));
    pair.compact();
    (0..12).for_each(|_| pair.write(5));
    // Compacted, but not swept away: the copy must not bring it back.
    pair.meta.compacted += 20;
    for state in [&pair.rocks as &dyn State, &pair.memory] {
        state.write(&[], &pair.meta).expect("a write");
    }
    let mut exports = [
        pair.rocks.export().expect("a copy"),
        pair.memory.export().expect("a copy"),
    ];
    let other = Pair::new(&folder.path().join("other"), 4);
    let meta = Meta {
        installed: pair.meta.applied,
        ..pair.meta.clone()
    };
    for (export, state) in exports
        .iter_mut()
        .zip([&other.memory as &dyn State, &other.rocks])
    {
        state.write(&[], &Meta::default()).expect("what was there before");
        pass(&mut **export, state, &meta);
    }
    let mut other = Pair {
        meta,
        current: pair.current.clone(),
        ..other
    };
    other.compare();
    other.write(4);
    other.compact();
    other.compare();
    drop(other);
    let found = Rocks::open(&folder.path().join("other")).expect("a database");
    assert_eq!(
        found.meta().expect("meta").map(|meta| meta.installed),
        Some(pair.meta.applied)
    );
    let names = std::fs::read_dir(folder.path().join("other"))
        .expect("a folder")
        .count();
    assert_eq!(names, 1, "only the folder that counts is left");
}

fn pass(export: &mut dyn crate::state::Export, state: &dyn State, meta: &Meta) {
    let mut import = state.import().expect("an import");
    loop {
        let portion = export.next().expect("a portion");
        if portion.is_empty() {
            break;
        }
        import.add(portion, meta.compacted).expect("a portion taken in");
    }
    import.finish().expect("a complete copy")(meta).expect("an installed copy");
}
