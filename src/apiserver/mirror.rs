//! Keeping in memory what is made of a part of the store.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use store::{Change, Entry, Store, StoreError};

/// How long a broken watch is left alone.
const PAUSE: Duration = Duration::from_millis(200);

/// Something that is made of all objects below a prefix.
pub trait Mirror: Send + Sync {
    /// Where they are in the store.
    const PREFIX: &'static str;
    /// What they are, in the plural.
    const OF: &'static str;

    /// Begins anew with these objects.
    fn replace(&self, entries: &[Arc<Entry>]);

    /// Takes in an object as it is now, or that it is gone.
    fn apply(&self, key: &str, text: Option<&[u8]>);
}

/// Takes in everything stored so far; returns the revision from which to follow.
pub fn load<M: Mirror>(mirror: &M, store: &Store) -> u64 {
    let (revision, entries) = store.peek_prefix(M::PREFIX);
    mirror.replace(&entries);
    revision
}

/// Follows the store from `revision` on, for as long as it is open.
pub async fn follow<M: Mirror>(mirror: Arc<M>, store: Store, mut revision: u64, followers: Followers) {
    loop {
        let ended = drain(&*mirror, &store, revision).await;
        followers.lost(M::OF);
        if !anew(M::OF, ended).await {
            return;
        }
        revision = load(&*mirror, &store);
        followers.found(M::OF);
    }
}

/// Who has lost the store for the moment: what they know may be old. Copies share it.
#[derive(Clone, Debug, Default)]
pub struct Followers(Arc<Mutex<BTreeSet<&'static str>>>);

impl Followers {
    /// Whether all follow; if not, who does not.
    ///
    /// # Errors
    /// The names of those.
    pub fn check(&self) -> Result<(), String> {
        let lost = self.lock();
        match lost.is_empty() {
            true => Ok(()),
            false => Err(format!("{} informers not synced: {lost:?}", lost.len())),
        }
    }

    fn lost(&self, of: &'static str) {
        self.lock().insert(of);
    }

    fn found(&self, of: &'static str) {
        self.lock().remove(of);
    }

    // A std mutex: nothing awaits while it is held.
    fn lock(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn drain<M: Mirror>(mirror: &M, store: &Store, revision: u64) -> Result<(), StoreError> {
    let mut watch = store.watch(M::PREFIX, revision)?;
    while let Some(event) = watch.next().await {
        let event = event?;
        let text = (event.kind == Change::Put).then_some(&event.entry.text[..]);
        mirror.apply(&event.entry.key, text);
    }
    Ok(())
}

/// Whether to begin anew, a moment later, what ended like this: not once the store is closed.
pub(crate) async fn anew(what: &str, ended: Result<(), StoreError>) -> bool {
    match ended {
        Err(StoreError::Closed) => return false,
        Err(error) => tracing::warn!(%error, "watching {what} broke off"),
        Ok(()) => {}
    }
    tokio::time::sleep(PAUSE).await;
    true
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use store::{Expect, Header, Op, Record, StoreConfig};

    use super::*;

    /// Counts how often it began anew.
    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Mirror for Counter {
        const PREFIX: &'static str = "/core/pods/";
        const OF: &'static str = "pods";

        fn replace(&self, _: &[Arc<Entry>]) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }

        fn apply(&self, _: &str, _: Option<&[u8]>) {}
    }

    #[test]
    fn who_has_lost_the_store_is_named_until_it_is_found() {
        let followers = Followers::default();
        assert_eq!(followers.check(), Ok(()));
        followers.lost("roles");
        followers.lost("quotas");
        let why = followers.check().unwrap_err();
        assert_eq!(why, "2 informers not synced: {\"quotas\", \"roles\"}");
        followers.found("roles");
        followers.found("quotas");
        assert_eq!(followers.check(), Ok(()));
    }

    #[tokio::test]
    async fn a_watch_that_cannot_begin_is_a_loss_until_all_is_loaded_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(StoreConfig::new(folder.path())).await.unwrap();
        let (mirror, followers) = (Arc::new(Counter::default()), Followers::default());
        for name in ["a", "b"] {
            let record = Record {
                header: Header::default(),
                text: Bytes::from_static(b"{\"metadata\":{\"resourceVersion\":\"\"}}"),
                revision_at: 32,
                ttl_seconds: None,
            };
            let op = Op::Put {
                key: format!("/core/pods/default/{name}"),
                record,
                expect: Expect::Any,
            };
            store.commit(vec![op]).await.unwrap();
        }
        // What was forgotten cannot be followed.
        store.compact(store.revision()).await.unwrap();
        let task = tokio::spawn(follow(mirror.clone(), store.clone(), 0, followers.clone()));
        let mut was_lost = false;
        while mirror.0.load(Ordering::SeqCst) == 0 || followers.check().is_err() {
            was_lost |= followers.check().is_err();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(was_lost, "it was lost for {PAUSE:?}");
        assert_eq!(mirror.0.load(Ordering::SeqCst), 1, "now it follows");
        task.abort();
        store.close().await;
    }
}
