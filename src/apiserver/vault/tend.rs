//! What goes on beside requests where plugins keep keys: they are asked how they are, and seeds are decrypted before
//! somebody needs them who cannot wait.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use store::{Entry, Event, StoreError};

use super::configuration::Configuration;
use super::{Vault, entries, sealed};

/// How often it is looked whether a plugin should be asked.
const TICK: Duration = Duration::from_secs(1);

impl Vault {
    pub(super) fn next(&self) -> std::sync::MutexGuard<'_, Option<Arc<Configuration>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the plugins of a configuration that has just been read, and has the seeds decrypted of what is stored. One
    /// that is away does not hold up the start: what needs it fails until it is there.
    pub async fn prepare(&self) {
        let first = self.next().clone();
        if let Some(configuration) = first {
            for kms in configuration.plugins() {
                kms.look().await;
            }
            self.configure(configuration);
        }
        self.learn_stored().await;
    }

    /// Looks after plugins and seeds, for ever.
    pub async fn tend(self) {
        loop {
            self.look().await;
            for (source, kms) in self.missing.take() {
                tell(kms.learn(&source).await);
            }
            // Whichever comes first.
            let _ = tokio::time::timeout(TICK, self.missing.found.notified()).await;
        }
    }

    pub(super) async fn look(&self) {
        let (current, next) = (self.configuration(), self.next().clone());
        let plugins = current
            .plugins()
            .chain(next.iter().flat_map(|next| next.plugins()));
        for kms in plugins.filter(|kms| kms.is_due()) {
            kms.look().await;
        }
        let Some(next) = next.filter(|next| next.plugins().all(|kms| kms.health().is_ok())) else {
            return;
        };
        // Another may have come in the meantime.
        if self
            .next()
            .as_ref()
            .is_some_and(|waits| Arc::ptr_eq(waits, &next))
        {
            self.configure(next);
            tracing::info!("what the plugins of a new configuration keep the keys of is sealed by it now");
            self.learn_stored().await;
        }
    }

    /// Whether all plugins are well (`/readyz/kms-providers`).
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn health(&self) -> Result<(), String> {
        let configuration = self.configuration();
        let wrong: Vec<String> = configuration
            .plugins()
            .filter_map(|kms| kms.health().err())
            .collect();
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(wrong.join(", "))
        }
    }

    async fn learn_stored(&self) {
        let configuration = self.configuration();
        for prefix in configuration.prefixes_of_plugins() {
            let (_, entries) = self.store.peek_prefix(prefix);
            for entry in &entries {
                if let Some((kms, source)) = sealed::seed(entry, &configuration)
                    && let Err(why) = kms.learn(&source).await
                {
                    tell(Err(why));
                    // Whoever is away for one is away for all.
                    break;
                }
            }
        }
    }

    /// Has the seeds decrypted that entries were sealed with.
    ///
    /// # Errors
    /// The first that cannot be.
    pub(super) async fn learn(&self, entries: impl Iterator<Item = &Arc<Entry>>) -> Result<(), StoreError> {
        let configuration = self.configuration();
        if configuration.plugins().next().is_none() {
            return Ok(());
        }
        for entry in entries {
            let Some((kms, source)) = sealed::seed(entry, &configuration) else {
                continue;
            };
            let learned = kms.learn(&source).await;
            learned.map_err(|reason| sealed::refused(&entry.key, reason))?;
        }
        Ok(())
    }

    /// Whether an event has entries whose seeds are not in memory.
    pub(super) fn waits_for_seeds(&self, event: &Event) -> bool {
        let configuration = self.configuration();
        let unknown = |entry: &Arc<Entry>| {
            sealed::seed(entry, &configuration).is_some_and(|(kms, source)| !kms.knows(&source))
        };
        entries(event).any(unknown)
    }
}

fn tell(learned: Result<(), String>) {
    if let Err(why) = learned {
        tracing::error!(why, "what is stored cannot be read");
    }
}
