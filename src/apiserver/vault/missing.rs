//! Seeds that are wanted and not in memory.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use super::kms::Kms;
use super::kms::verdict::Source;

/// How many seeds can be missing; when there are more, the rest is found missing again.
const MISSING_MAX: usize = 1000;

/// Seeds that somebody needed and that were not in memory.
#[derive(Default)]
pub struct Missing {
    seeds: Mutex<HashMap<Source, Arc<Kms>>>,
    pub(super) found: Notify,
}

impl Missing {
    /// Has a seed decrypted soon.
    pub fn note(&self, kms: Arc<Kms>, source: Source) {
        let mut seeds = self.seeds.lock().unwrap_or_else(PoisonError::into_inner);
        if seeds.len() < MISSING_MAX {
            seeds.insert(source, kms);
            self.found.notify_one();
        }
    }

    /// Has everything looked at now.
    pub fn wake(&self) {
        self.found.notify_one();
    }

    pub(super) fn take(&self) -> HashMap<Source, Arc<Kms>> {
        std::mem::take(&mut *self.seeds.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
