//! The watch cache: the latest entries ordered by key, and the window of recent
//! events from which watches are served. All in memory, shared by everybody,
//! written only by the applying thread.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::apply::{Position, View};
use crate::types::{Change, Entry, Event, ListQuery, Listing};
use crate::window::{Recent, Watcher, Watchers, Window};

/// The cache. Its lock is a std lock: nothing awaits inside it.
pub struct Cache {
    inner: RwLock<Inner>,
    revision: tokio::sync::watch::Sender<u64>,
}

struct Inner {
    entries: BTreeSet<ByKey>,
    position: Position,
    window: Window,
    watchers: Watchers,
    closed: bool,
}

/// An entry, ordered by its key alone; spares a second copy of each key.
struct ByKey(Arc<Entry>);

/// What a watch gets when it asks for more.
pub enum More {
    /// Events under its prefix, and the revision up to which these are all.
    Events(Vec<Arc<Event>>, u64),
    /// The next events, after one revision and up to another, are not in
    /// memory any more: they must come from the state.
    Older {
        /// After this revision.
        after: u64,
        /// Up to this one; what follows is in memory.
        until: u64,
    },
    /// They are gone; this is the oldest revision one can watch from.
    Compacted(u64),
    /// There will be no more.
    Closed,
}

impl Cache {
    /// A cache of `entries` (in key order) as of `position`.
    pub fn new(entries: Vec<Arc<Entry>>, position: Position, events_max: usize, bytes_max: usize) -> Cache {
        Cache {
            inner: RwLock::new(Inner {
                entries: entries.into_iter().map(ByKey).collect(),
                position,
                window: Window::new(position.revision, events_max, bytes_max),
                watchers: Watchers::default(),
                closed: false,
            }),
            revision: tokio::sync::watch::Sender::new(position.revision),
        }
    }

    /// Takes in the events of one batch and wakes those who watch for them.
    pub fn publish(&self, events: &[Arc<Event>], position: Position) {
        let mut inner = self.write();
        for event in events {
            match event.kind {
                Change::Put => drop(inner.entries.replace(ByKey(event.entry.clone()))),
                Change::Delete => drop(inner.entries.take(event.entry.key.as_str())),
            }
            inner.window.push(event.clone());
        }
        inner.position = position;
        inner.watchers.wake(events);
        drop(inner);
        if !events.is_empty() {
            self.revision.send_replace(position.revision);
        }
    }

    /// Takes another member's state in the place of what is here. Watches go on:
    /// what happened in between they get from the state's history, unless it
    /// is to be `lost` (a planted bug).
    pub fn replace(&self, entries: Vec<Arc<Entry>>, position: Position, lost: bool) {
        let mut inner = self.write();
        let before = inner.position.revision;
        inner.entries = entries.into_iter().map(ByKey).collect();
        inner.window.restart(position.revision);
        inner.position = position;
        inner
            .watchers
            .notice_all(if lost { position.revision } else { before } + 1);
        drop(inner);
        self.revision.send_replace(position.revision);
    }

    /// Where the cache stands.
    pub fn position(&self) -> Position {
        self.read().position
    }

    /// Receives each new revision.
    pub fn revisions(&self) -> tokio::sync::watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The latest entries asked for; `query.revision` is not looked at.
    pub fn list(&self, query: &ListQuery) -> Listing {
        let inner = self.read();
        let mut listing = Listing {
            revision: inner.position.revision,
            ..Listing::default()
        };
        let mut found = inner.under(&query.prefix, query.after.as_deref());
        match query.limit {
            0 => listing.entries.extend(found.cloned()),
            limit => {
                listing.entries.extend(found.by_ref().take(limit).cloned());
                listing.remaining = found.count() as u64;
            }
        }
        listing.more = listing.remaining > 0;
        listing
    }

    /// How many entries there are under a prefix, and the bytes of their texts.
    pub fn count(&self, prefix: &str) -> (u64, u64) {
        let inner = self.read();
        let found = inner.under(prefix, None);
        found.fold((0, 0), |(count, bytes), entry| {
            (count + 1, bytes + entry.text.len() as u64)
        })
    }

    /// The listing at an older revision, if it is not compacted and it can be told that nothing under
    /// the prefix has changed since; `None` says nothing.
    pub fn list_unchanged(&self, query: &ListQuery, revision: u64) -> Option<Listing> {
        {
            let inner = self.read();
            let known = inner.position.compacted..=inner.position.revision;
            match inner.window.after(&query.prefix, revision, 1) {
                Recent::Events(events, _) if events.is_empty() && known.contains(&revision) => {}
                _ => return None,
            }
        }
        // Something may have been written between the two looks: look again.
        let listing = self.list(query);
        let unchanged = match self.read().window.after(&query.prefix, revision, 1) {
            Recent::Events(events, _) => events.is_empty(),
            Recent::Lost(_) => false,
        };
        unchanged.then_some(Listing { revision, ..listing })
    }

    /// Registers a watch of events after revision `from`.
    pub fn watcher(&self, prefix: &str, from: u64) -> Arc<Watcher> {
        let watcher = Arc::new(Watcher::new(prefix, from));
        self.write().watchers.add(&watcher);
        watcher
    }

    /// Up to `limit` events that the watch has not taken, which has taken
    /// everything up to revision `taken`.
    pub fn more(&self, watcher: &Watcher, taken: u64, limit: usize) -> More {
        let inner = self.read();
        if inner.closed {
            return More::Closed;
        }
        let latest = taken.max(inner.position.revision);
        let Some(behind) = watcher.behind() else {
            return More::Events(vec![], latest);
        };
        let after = taken.max(behind - 1);
        match inner.window.after(watcher.prefix(), after, limit) {
            Recent::Events(events, _) if events.len() < limit => {
                watcher.set_behind(0);
                More::Events(events, latest)
            }
            Recent::Events(events, until) => {
                watcher.set_behind(until + 1);
                More::Events(events, until)
            }
            // The window may reach further back than compaction lets the state.
            Recent::Lost(_) if after < inner.position.compacted => More::Compacted(inner.position.compacted),
            Recent::Lost(until) => More::Older { after, until },
        }
    }

    /// The greatest revision up to which the watch, having taken everything up
    /// to `taken`, has nothing more to take.
    pub fn quiet_until(&self, watcher: &Watcher, taken: u64) -> u64 {
        let inner = self.read();
        let latest = inner.position.revision;
        let Some(behind) = watcher.behind() else {
            return latest;
        };
        let after = taken.max(behind - 1);
        match inner.window.after(watcher.prefix(), after, 1) {
            Recent::Events(events, _) => events.first().map_or(latest, |event| event.revision - 1),
            Recent::Lost(_) => after,
        }
    }

    /// Ends all watches.
    pub fn close(&self) {
        let mut inner = self.write();
        inner.closed = true;
        inner.watchers.wake_all();
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl View for Cache {
    fn entry(&self, key: &str) -> Option<Arc<Entry>> {
        self.read().entries.get(key).map(|by_key| by_key.0.clone())
    }
}

impl Inner {
    fn under<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Entry>> {
        let start = match after.filter(|after| *after >= prefix) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(prefix),
        };
        let range = self.entries.range::<str, _>((start, Bound::Unbounded));
        range
            .map(|by_key| &by_key.0)
            .take_while(move |entry| entry.key.starts_with(prefix))
    }
}

impl Borrow<str> for ByKey {
    fn borrow(&self) -> &str {
        &self.0.key
    }
}

impl Ord for ByKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.key.cmp(&other.0.key)
    }
}

impl PartialOrd for ByKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.key == other.0.key
    }
}

impl Eq for ByKey {}
