//! One at a time per name: the second waits, and finds what the first brought.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OwnedMutexGuard;

/// Turns by name.
#[derive(Debug, Default)]
pub struct Turns {
    // A std mutex: nothing awaits while it is held.
    names: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits for the turn of `name`, which lasts until the guard is dropped.
    pub async fn take(&self, name: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
            names.retain(|_, turn| Arc::strong_count(turn) > 1);
            names.entry(name.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn names_do_not_wait_for_each_other_and_are_forgotten() {
        let turns = Turns::default();
        let first = turns.take("a").await;
        let _other = turns.take("b").await;
        let mut waiting = Box::pin(turns.take("a"));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        drop(first);
        drop(waiting.await);
        drop(turns.take("c").await);
        assert_eq!(turns.names.lock().unwrap().len(), 2, "b and c");
    }
}
