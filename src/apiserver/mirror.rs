//! Keeping in memory what is made of a part of the store.

use std::sync::Arc;
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
pub async fn follow<M: Mirror>(mirror: Arc<M>, store: Store, mut revision: u64) {
    while anew(M::OF, drain(&*mirror, &store, revision).await).await {
        revision = load(&*mirror, &store);
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
