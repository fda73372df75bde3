//! The window of recent events, grouped so that a watch looks only at events of
//! its own kind of object, and the watches that wait for them.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::Notify;

use crate::types::Event;

/// What the window has to say to a watch.
pub enum Recent {
    /// Events, and the revision up to which these are all there are.
    Events(Vec<Arc<Event>>, u64),
    /// The window begins only after this revision.
    Lost(u64),
}

/// The latest events, bounded in number and in bytes.
pub struct Window {
    all: VecDeque<Arc<Event>>,
    /// The same events by the group of their keys.
    groups: HashMap<String, VecDeque<Arc<Event>>>,
    /// Every event after this revision is here.
    lost: u64,
    last: u64,
    bytes: usize,
    events_max: usize,
    bytes_max: usize,
}

impl Window {
    /// An empty window that begins after `revision`.
    pub fn new(revision: u64, events_max: usize, bytes_max: usize) -> Window {
        let (all, groups) = (VecDeque::new(), HashMap::new());
        Window {
            all,
            groups,
            lost: revision,
            last: revision,
            bytes: 0,
            events_max,
            bytes_max,
        }
    }

    /// Adds the next event, dropping the oldest ones that no longer fit.
    pub fn push(&mut self, event: Arc<Event>) {
        self.bytes += weight(&event);
        self.last = event.revision;
        let group = group(&event.entry.key);
        match self.groups.get_mut(group) {
            Some(events) => events.push_back(event.clone()),
            None => drop(
                self.groups
                    .insert(group.to_owned(), VecDeque::from([event.clone()])),
            ),
        }
        self.all.push_back(event);
        while self.all.len() > self.events_max || self.bytes > self.bytes_max {
            self.drop_oldest();
        }
    }

    /// Up to `limit` events under `prefix` after revision `after`.
    pub fn after(&self, prefix: &str, after: u64, limit: usize) -> Recent {
        if after < self.lost {
            return Recent::Lost(self.lost);
        }
        let events = match is_group(group(prefix)) {
            true => self.groups.get(group(prefix)),
            false => Some(&self.all),
        };
        let Some(events) = events else {
            return Recent::Events(vec![], self.last);
        };
        let start = events.partition_point(|event| event.revision <= after);
        let matching = events
            .range(start..)
            .filter(|event| event.entry.key.starts_with(prefix));
        let found: Vec<_> = matching.take(limit).cloned().collect();
        let until = match found.last() {
            Some(event) if found.len() == limit => event.revision,
            _ => self.last,
        };
        Recent::Events(found, until)
    }

    /// Forgets all events; the window begins after `revision`.
    pub fn restart(&mut self, revision: u64) {
        self.all.clear();
        self.groups.clear();
        (self.lost, self.last, self.bytes) = (revision, revision, 0);
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.all.pop_front() else { return };
        self.lost = event.revision;
        self.bytes -= weight(&event);
        let group = group(&event.entry.key);
        if let Some(events) = self.groups.get_mut(group) {
            events.pop_front();
            if events.is_empty() {
                self.groups.remove(group);
            }
        }
    }
}

/// One watch, as the publisher knows it.
pub struct Watcher {
    prefix: String,
    /// Revision of the first event under the prefix that the watch has perhaps
    /// not taken; 0 when it has taken all. So a watch to which nothing happens
    /// keeps up with the window, and with compaction, without being woken.
    /// Changed only under the cache's lock, hence the relaxed ordering.
    behind: AtomicU64,
    /// Woken when there may be something new.
    pub news: Notify,
}

impl Watcher {
    /// A watch of everything under `prefix` after revision `from`.
    pub fn new(prefix: &str, from: u64) -> Watcher {
        let behind = AtomicU64::new(from.saturating_add(1));
        Watcher {
            prefix: prefix.to_owned(),
            behind,
            news: Notify::new(),
        }
    }

    /// What it watches.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Where to look on from, if there is anything to look for.
    pub fn behind(&self) -> Option<u64> {
        Some(self.behind.load(Ordering::Relaxed)).filter(|revision| *revision > 0)
    }

    /// Notes that events before this revision have been taken; 0 for all there are.
    pub fn set_behind(&self, revision: u64) {
        self.behind.store(revision, Ordering::Relaxed);
    }

    fn notice(&self, revision: u64) {
        if self.behind().is_none() {
            self.set_behind(revision);
        }
        self.news.notify_one();
    }
}

/// All watches, by the group of their prefix.
#[derive(Default)]
pub struct Watchers {
    groups: HashMap<String, Vec<Weak<Watcher>>>,
    /// Those whose prefix spans groups.
    wide: Vec<Weak<Watcher>>,
}

impl Watchers {
    /// Adds a watch; it is forgotten when its last owner drops it.
    pub fn add(&mut self, watcher: &Arc<Watcher>) {
        let group = group(&watcher.prefix);
        let list = match is_group(group) {
            true => self.groups.entry(group.to_owned()).or_default(),
            false => &mut self.wide,
        };
        list.retain(|other| other.strong_count() > 0);
        list.push(Arc::downgrade(watcher));
    }

    /// Wakes each watch that one of the events concerns.
    pub fn wake(&self, events: &[Arc<Event>]) {
        for event in events {
            let key = event.entry.key.as_str();
            let group = self.groups.get(group(key)).map_or(&[][..], Vec::as_slice);
            for watcher in group.iter().chain(&self.wide).filter_map(Weak::upgrade) {
                if key.starts_with(&watcher.prefix) {
                    watcher.notice(event.revision);
                }
            }
        }
    }

    /// Wakes every watch.
    pub fn wake_all(&self) {
        self.all().for_each(|watcher| watcher.news.notify_one());
    }

    /// Tells every watch that there may be an event for it at `revision` or later.
    pub fn notice_all(&self, revision: u64) {
        self.all().for_each(|watcher| watcher.notice(revision));
    }

    fn all(&self) -> impl Iterator<Item = Arc<Watcher>> {
        let lists = self.groups.values().flatten().chain(&self.wide);
        lists.filter_map(Weak::upgrade)
    }
}

/// The first two segments of a key or prefix with their slashes
/// (`/core/pods/` of `/core/pods/default/web`), or all of it if it has fewer.
fn group(key: &str) -> &str {
    match key.match_indices('/').nth(2) {
        Some((at, _)) => &key[..=at],
        None => key,
    }
}

/// Whether a prefix's group is complete: all keys under it are in one group.
fn is_group(group: &str) -> bool {
    group.matches('/').count() == 3
}

fn weight(event: &Event) -> usize {
    event.entry.weight() + event.previous.as_ref().map_or(0, |previous| previous.weight())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Change, Entry, Header};

    fn event(revision: u64, key: &str) -> Arc<Event> {
        let entry = Arc::new(Entry {
            key: key.into(),
            revision,
            created: revision,
            header: Header::default(),
            text: Default::default(),
            revision_at: 0,
            expires_ms: None,
        });
        Arc::new(Event {
            revision,
            kind: Change::Put,
            entry,
            previous: None,
        })
    }

    fn revisions(recent: Recent) -> (Vec<u64>, u64) {
        match recent {
            Recent::Events(events, until) => (events.iter().map(|event| event.revision).collect(), until),
            Recent::Lost(until) => (vec![], until),
        }
    }

    fn filled(events_max: usize) -> Window {
        let mut window = Window::new(0, events_max, usize::MAX);
        for (revision, key) in [
            (1, "/core/pods/a/x"),
            (2, "/core/nodes/n"),
            (3, "/core/pods/b/y"),
            (4, "/core/pods/a/z"),
        ] {
            window.push(event(revision, key));
        }
        window
    }

    #[test]
    fn prefixes_narrow_and_wide_see_their_events() {
        let window = filled(10);
        assert_eq!(revisions(window.after("/core/pods/", 0, 9)), (vec![1, 3, 4], 4));
        assert_eq!(revisions(window.after("/core/pods/a/", 1, 9)), (vec![4], 4));
        assert_eq!(revisions(window.after("/core/", 1, 9)), (vec![2, 3, 4], 4));
        assert_eq!(revisions(window.after("", 0, 2)), (vec![1, 2], 2));
        assert_eq!(revisions(window.after("/apps/deployments/", 0, 9)), (vec![], 4));
        assert_eq!(revisions(window.after("/core/pods/", 100, 9)), (vec![], 4));
    }

    #[test]
    fn what_was_dropped_is_lost_not_skipped() {
        let window = filled(2);
        assert!(matches!(window.after("/core/nodes/", 1, 9), Recent::Lost(2)));
        assert_eq!(revisions(window.after("/core/pods/", 2, 9)), (vec![3, 4], 4));
    }

    #[test]
    fn bytes_bound_the_window_too() {
        let mut window = Window::new(0, 100, 600);
        (1..=5).for_each(|revision| window.push(event(revision, "/a/b/c")));
        assert!(matches!(window.after("/a/b/", 2, 9), Recent::Lost(3)));
    }
}
