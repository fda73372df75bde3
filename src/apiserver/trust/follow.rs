//! Taking up what the cluster has agreed on, on every full server, for as long as it runs.

use std::sync::Arc;
use std::time::Duration;

use store::{Change, Store, StoreError};

use super::record;
use crate::mirror::anew;
use crate::pki::{Pki, PkiError, Trust};

/// Between attempts to take something up.
const TAKE_RETRY: Duration = Duration::from_secs(5);
/// Between attempts to say that it was.
const RETRY: Duration = Duration::from_secs(1);

/// Follows the cluster's keys. `take_up` makes them this server's own.
pub async fn follow<F>(store: Store, pki: Arc<Pki>, take_up: F)
where
    F: Fn(&Trust) -> Result<(), PkiError> + Clone + Send + 'static,
{
    let follower = Follower { store, pki, take_up };
    while anew("the cluster's keys", follower.until_broken().await).await {}
}

struct Follower<F> {
    store: Store,
    pki: Arc<Pki>,
    take_up: F,
}

impl<F> Follower<F>
where
    F: Fn(&Trust) -> Result<(), PkiError> + Clone + Send + 'static,
{
    /// Until the watch breaks off, or something could not be taken up: then it begins anew with what is agreed on by
    /// then.
    async fn until_broken(&self) -> Result<(), StoreError> {
        let revision = self.store.revision();
        if let Some(entry) = self.store.peek(record::KEY)
            && !self.take(&entry.text).await?
        {
            return Ok(());
        }
        let mut watch = self.store.watch(record::KEY, revision)?;
        while let Some(event) = watch.next().await {
            let event = event?;
            if event.kind == Change::Put && !self.take(&event.entry.text).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes a document up and says so; whether it could.
    async fn take(&self, text: &[u8]) -> Result<bool, StoreError> {
        let trust = match self.try_take(text).await {
            Ok(trust) => trust,
            Err(why) => {
                tracing::error!(why, "the cluster's keys cannot be taken up, trying again");
                tokio::time::sleep(TAKE_RETRY).await;
                return Ok(false);
            }
        };
        let (member, generation) = (self.store.member(), trust.generation);
        let said = self.store.peek(&format!("{}{member:x}", record::TAKEN));
        let said = said.and_then(|entry| record::read_taken(&entry.key, &entry.text));
        if said == Some((member, generation)) {
            return Ok(true);
        }
        tracing::info!(generation, "the cluster's keys were taken up");
        loop {
            match self.store.commit(vec![record::taken(member, generation)]).await {
                Ok(_) => return Ok(true),
                Err(error @ (StoreError::Closed | StoreError::Stopped(_) | StoreError::Removed)) => {
                    return Err(error);
                }
                Err(error) => tracing::debug!(%error, "not said yet that the keys were taken up"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    async fn try_take(&self, text: &[u8]) -> Result<Trust, String> {
        let trust = record::read(text, &self.pki.now().trust.seal)?;
        let (take_up, taken) = (self.take_up.clone(), trust.clone());
        // Files are written and synced, which may take a slow disk a while.
        let done = tokio::task::spawn_blocking(move || take_up(&taken)).await;
        done.map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())?;
        Ok(trust)
    }
}
