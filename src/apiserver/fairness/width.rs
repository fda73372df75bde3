//! How many seats a request takes: one, but for lists, which take as many as they are large, and for writes that many
//! are told of, which keep theirs a while after they have ended. Pure, but for the lock around what is remembered.
//!
//! Kubernetes estimates a list from the count and mean size of what is stored. Here the text of an answer is at hand
//! when it was made, so the next question for the same is taken to be as large as the last.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a list makes for each of its seats.
const BYTES_PER_SEAT: u64 = 100_000;
/// A list is sent in pieces, and so takes no more of the server than this much of it.
const BYTES_MAX: u64 = 1_000_000;
/// Watchers that are told of a change, for each seat.
const WATCHERS_PER_SEAT: u64 = 10;
/// The most that a write takes.
const WRITE_MAX: u64 = 10;
/// How long telling takes, for each ten watchers.
const TELLING: Duration = Duration::from_millis(5);
/// How many lists are remembered; with more, all are forgotten.
const REMEMBERED_MAX: usize = 4096;

/// What a request does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// It reads.
    #[default]
    Reading,
    /// It begins a watch.
    Watching,
    /// It changes something.
    Changing,
}

/// What a request takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// What it does.
    pub sort: Sort,
    /// So many seats.
    pub width: u64,
    /// For so long after its answer was made.
    pub lingers: Duration,
}

impl Default for Work {
    fn default() -> Self {
        Self {
            sort: Sort::default(),
            width: 1,
            lingers: Duration::ZERO,
        }
    }
}

/// A list whose answer has that many bytes, of a level whose requests may be so wide.
pub fn list(bytes: u64, widest: u64) -> Work {
    let seats = bytes.min(BYTES_MAX).div_ceil(BYTES_PER_SEAT);
    Work {
        width: seats.clamp(1, widest.max(1)),
        ..Work::default()
    }
}

/// A write that so many watchers are told of.
pub fn write(watchers: u64, widest: u64) -> Work {
    if watchers < WATCHERS_PER_SEAT {
        return Work::default();
    }
    let seats = watchers.div_ceil(WATCHERS_PER_SEAT);
    let width = seats.clamp(1, widest.clamp(1, WRITE_MAX));
    Work {
        width,
        // The same work, in a narrower and longer shape.
        lingers: TELLING.mul_f64(seats as f64 / width as f64),
        ..Work::default()
    }
}

/// A list: where it is, and about how much of it is asked for at once. Limits of one order of magnitude count as the
/// same: nobody makes a list unknown by asking for one object more each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ListKey {
    place: u64,
    magnitude: u32,
}

/// The magnitude of a list without a limit.
const WHOLE: u32 = u64::BITS;

impl ListKey {
    /// The key of a list of at most `limit` objects; 0 for all of them.
    pub fn new(group: &str, plural: &str, namespace: &str, limit: u64) -> Self {
        let mut hasher = DefaultHasher::new();
        (group, plural, namespace).hash(&mut hasher);
        Self {
            place: hasher.finish(),
            magnitude: limit.checked_ilog2().unwrap_or(WHOLE),
        }
    }
}

/// How large the answers to lists were.
#[derive(Default)]
pub struct Sizes {
    // A std lock: nothing awaits while it is held.
    known: Mutex<HashMap<ListKey, u64>>,
}

impl Sizes {
    /// Bytes of the last answer, or of the last one to whoever asked for more; 0 when there was none.
    pub fn of(&self, key: &ListKey) -> u64 {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let larger = (key.magnitude..=WHOLE).map(|magnitude| ListKey { magnitude, ..*key });
        larger
            .filter_map(|key| known.get(&key).copied())
            .next()
            .unwrap_or_default()
    }

    /// Remembers an answer.
    pub fn note(&self, key: ListKey, bytes: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED_MAX && !known.contains_key(&key) {
            known.clear();
        }
        known.insert(key, bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_as_wide_as_they_are_large() {
        let width = |bytes, widest| list(bytes, widest).width;
        assert_eq!((width(0, 37), width(100_000, 37), width(100_001, 37)), (1, 1, 2));
        assert_eq!((width(999_999, 37), width(50_000_000, 37)), (10, 10));
        assert_eq!((width(999_999, 2), width(999_999, 0)), (2, 1));
    }

    #[test]
    fn writes_that_many_hear_of_linger() {
        let ms = |work: Work| (work.width, work.lingers.as_millis());
        assert_eq!(ms(write(9, 37)), (1, 0));
        assert_eq!(ms(write(10, 37)), (1, 5));
        assert_eq!(ms(write(95, 37)), (10, 5));
        assert_eq!(ms(write(200, 37)), (10, 10));
        assert_eq!(ms(write(200, 2)), (2, 50));
    }

    #[test]
    fn the_last_answer_is_remembered() {
        let key = |namespace: &str, limit| ListKey::new("", "pods", namespace, limit);
        let (sizes, whole) = (Sizes::default(), key("a", 0));
        assert_eq!(sizes.of(&whole), 0);
        sizes.note(whole, 7);
        assert_eq!((sizes.of(&whole), sizes.of(&key("", 0))), (7, 0));
        // Until it is known, a part is taken to be as large as more of it.
        assert_eq!(sizes.of(&key("a", 500)), 7);
        sizes.note(key("a", 500), 3);
        assert_eq!((sizes.of(&key("a", 511)), sizes.of(&key("a", 512))), (3, 7));
        for other in 0..2 * REMEMBERED_MAX as u64 {
            sizes.note(key(&other.to_string(), 0), 1);
        }
        assert!(sizes.known.lock().unwrap().len() <= REMEMBERED_MAX);
    }
}
