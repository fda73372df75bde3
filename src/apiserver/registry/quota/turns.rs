//! Who writes, of those who all change the same quotas.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// One writer at a time in each namespace that has quotas: they all change the same few objects.
#[derive(Default)]
pub struct Turns(Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits for a turn in that namespace; it lasts as long as what is returned.
    pub async fn wait(&self, namespace: &str) -> OwnedMutexGuard<()> {
        let turn = {
            // A std mutex: nothing awaits while it is held.
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            turns.entry(namespace.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
