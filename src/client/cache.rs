//! A collection kept up to date in memory.

mod change;
mod options;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::typed::Object;
pub use change::Change;
pub use options::CacheOptions;

/// A collection in memory: listed once, then followed. Cheap to clone; all
/// clones are the same cache. It lags behind the server by the watch's latency.
pub struct Cache<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Cache<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

/// How long a server is waited for before what was known before is gone by.
const FRESH_MAX: Duration = Duration::from_secs(2);

struct Shared<T> {
    /// Whether it began with objects from before.
    resumed: bool,
    // A std mutex: nothing awaits while it is held.
    state: Mutex<State<T>>,
    /// Revision up to which the cache is complete; `None` until the first list is in.
    progress: watch::Sender<Option<u64>>,
}

struct State<T> {
    /// By `namespace/name`, so that a namespace is one range.
    objects: BTreeMap<String, Arc<T>>,
    listeners: Vec<mpsc::UnboundedSender<Change<T>>>,
}

impl<T> State<T> {
    fn tell(&mut self, change: &Change<T>) {
        self.listeners
            .retain(|listener| listener.send(change.clone()).is_ok());
    }
}

fn key(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn key_of<T: Object>(object: &T) -> String {
    let meta = object.metadata();
    key(
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

impl<T: Object> Cache<T> {
    /// A cache that nothing feeds, complete as it is; for tests and for worlds made by hand.
    pub fn fixed(objects: impl IntoIterator<Item = T>) -> Self {
        let cache = Self::empty();
        cache.replace(objects.into_iter().collect(), 0);
        cache
    }

    fn empty() -> Self {
        Self::with(false)
    }

    pub(crate) fn with(resumed: bool) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            listeners: Vec::new(),
        };
        let shared = Shared {
            resumed,
            state: Mutex::new(state),
            progress: watch::Sender::new(None),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One object; `namespace` is empty for cluster-scoped kinds.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        self.state().objects.get(&key(namespace, name)).cloned()
    }

    /// Every object, ordered by namespace and name.
    pub fn list(&self) -> Vec<Arc<T>> {
        self.state().objects.values().cloned().collect()
    }

    /// Every object of a namespace, ordered by name.
    pub fn list_in(&self, namespace: &str) -> Vec<Arc<T>> {
        // '0' is the character after '/'.
        let range = format!("{namespace}/")..format!("{namespace}0");
        self.state()
            .objects
            .range(range)
            .map(|(_, object)| object.clone())
            .collect()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.state().objects.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Waits until the first list is in.
    pub async fn synced(&self) {
        let mut progress = self.shared.progress.subscribe();
        // The sender lives as long as `self`.
        let _ = progress.wait_for(Option::is_some).await;
    }

    /// Waits until there is something to go by: the first list, or, if the server
    /// does not give one soon, what was known before.
    pub async fn filled(&self) {
        if self.shared.resumed {
            let _ = tokio::time::timeout(FRESH_MAX, self.synced()).await;
        } else {
            self.synced().await;
        }
    }

    /// Whether the first list is in.
    pub fn is_synced(&self) -> bool {
        self.shared.progress.borrow().is_some()
    }

    /// The revision up to which the cache has seen everything; 0 before the first list.
    pub fn revision(&self) -> u64 {
        self.shared.progress.borrow().unwrap_or(0)
    }

    /// Waits until the cache has seen that revision, such as that of a write of one's own.
    /// A write that the cache's selectors leave out may be seen only with the next bookmark.
    pub async fn wait_revision(&self, revision: u64) {
        let mut progress = self.shared.progress.subscribe();
        let _ = progress.wait_for(|at| at.is_some_and(|at| at >= revision)).await;
    }

    /// Everything that is there now, as [`Change::Applied`], then every change as it comes.
    /// Nothing is lost: a slow listener's changes wait in memory.
    pub fn changes(&self) -> mpsc::UnboundedReceiver<Change<T>> {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut state = self.state();
        for object in state.objects.values() {
            let _ = sender.send(Change::Applied(object.clone(), None));
        }
        state.listeners.push(sender);
        receiver
    }

    /// Puts an object in, as if a watch had brought it. For caches made by [`Cache::fixed`].
    pub fn apply(&self, object: T) {
        let object = Arc::new(object);
        let mut state = self.state();
        let old = state.objects.insert(key_of(&*object), object.clone());
        state.tell(&Change::Applied(object, old));
    }

    /// Takes an object out, as if a watch had said so.
    pub fn remove(&self, namespace: &str, name: &str) {
        let mut state = self.state();
        if let Some(last) = state.objects.remove(&key(namespace, name)) {
            state.tell(&Change::Deleted(last));
        }
    }

    pub(crate) fn delete(&self, last: T) {
        let mut state = self.state();
        state.objects.remove(&key_of(&last));
        state.tell(&Change::Deleted(Arc::new(last)));
    }

    /// Everything the server has, at that revision; tells the listeners the difference.
    pub(crate) fn replace(&self, objects: Vec<T>, revision: u64) {
        let mut state = self.state();
        let mut old = std::mem::take(&mut state.objects);
        for object in objects {
            let key = key_of(&object);
            let before = old.remove(&key);
            let version = &object.metadata().resource_version;
            match before {
                Some(same) if version.is_some() && same.metadata().resource_version == *version => {
                    state.objects.insert(key, same);
                }
                before => {
                    let object = Arc::new(object);
                    state.objects.insert(key, object.clone());
                    state.tell(&Change::Applied(object, before));
                }
            }
        }
        for last in old.into_values() {
            state.tell(&Change::Deleted(last));
        }
        drop(state);
        self.reached(revision);
    }

    /// Forgets everything, and that there ever was a list.
    pub(crate) fn forget(&self) {
        self.replace(Vec::new(), 0);
        self.shared.progress.send_replace(Some(0));
    }

    pub(crate) fn reached(&self, revision: u64) {
        self.shared.progress.send_if_modified(|at| {
            let moved = at.is_none_or(|at| revision > at);
            if moved {
                *at = Some(revision);
            }
            moved
        });
    }
}

#[cfg(test)]
mod tests;
