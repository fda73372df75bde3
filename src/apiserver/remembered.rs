//! What others have answered, kept for a while.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};

/// How many answers are kept; when there are more, all are forgotten.
const KEPT_MAX: usize = 4096;

/// What a question is known by: its digest, so that what it held is nowhere in memory.
pub type Key = [u8; 32];

/// Answers by their questions.
pub struct Remembered<A> {
    // A std lock: nothing awaits while it is held.
    answers: Mutex<HashMap<Key, (Duration, A)>>,
}

impl<A> Default for Remembered<A> {
    fn default() -> Self {
        Self {
            answers: Mutex::default(),
        }
    }
}

impl<A: Clone> Remembered<A> {
    /// The key of a question that has these parts.
    pub fn key<'p>(parts: impl IntoIterator<Item = &'p str>) -> Key {
        let mut digest = Sha256::new();
        for part in parts {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }

    /// What was answered, if it still holds at `now` (monotonic time).
    pub fn get(&self, key: &Key, now: Duration) -> Option<A> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let (until, answer) = answers.get(key)?;
        (now < *until).then(|| answer.clone())
    }

    /// Keeps an answer until that time.
    pub fn keep(&self, key: Key, until: Duration, answer: A) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= KEPT_MAX && !answers.contains_key(&key) {
            answers.clear();
        }
        answers.insert(key, (until, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_hold_for_a_while() {
        let remembered = Remembered::default();
        let second = Duration::from_secs;
        let key = Remembered::<u8>::key(["a", "b"]);
        assert_ne!(key, Remembered::<u8>::key(["ab", ""]));
        assert_eq!(remembered.get(&key, second(1)), None);
        remembered.keep(key, second(5), 7);
        assert_eq!(remembered.get(&key, second(4)), Some(7));
        assert_eq!(remembered.get(&key, second(5)), None);
        for other in 0..2 * KEPT_MAX {
            remembered.keep(Remembered::<u8>::key([&*other.to_string()]), second(9), 1);
        }
        assert!(remembered.answers.lock().unwrap().len() <= KEPT_MAX);
    }
}
