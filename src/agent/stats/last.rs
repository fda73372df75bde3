//! What the last summary was made of.

use std::sync::{Mutex, PoisonError};

use super::sample::Sample;

/// The sample that the last summary was made of.
#[derive(Default)]
// A std mutex: nothing awaits while it is held.
pub struct LastSample(Mutex<Option<Sample>>);

impl LastSample {
    /// Puts a new one in its place.
    pub fn replace(&self, sample: &Sample) -> Option<Sample> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(sample.clone())
    }
}
