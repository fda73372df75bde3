//! Forms of texts, made once for all who want them: when a hundred clients watch a collection as a table, a change is
//! read and written down once.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// So many forms are kept: watchers ask for that of a change soon after each other.
const KEPT_MAX: usize = 16;
/// Larger ones are not kept, so that all of them together are small.
const LARGE: usize = 32 * 1024;

/// The forms that were made last. A form belongs to a text *in memory*, which is kept with it: another text at the
/// same place cannot be taken for it.
pub struct Forms<K> {
    // A std mutex: nothing awaits while it is held.
    made: Mutex<VecDeque<Made<K>>>,
}

struct Made<K> {
    of: Bytes,
    key: K,
    form: Bytes,
}

impl<K> Default for Forms<K> {
    fn default() -> Self {
        Self {
            made: Mutex::default(),
        }
    }
}

impl<K: PartialEq> Forms<K> {
    /// The form of a text that `key` stands for, if somebody wanted it a moment ago.
    pub fn find(&self, of: &Bytes, key: &K) -> Option<Bytes> {
        let made = self.made();
        let mut newest_first = made.iter().rev();
        let found = newest_first.find(|made| is_same(&made.of, of) && made.key == *key);
        found.map(|made| made.form.clone())
    }

    /// Keeps a form for others.
    pub fn keep(&self, of: &Bytes, key: K, form: &Bytes) {
        if of.len() + form.len() > LARGE {
            return;
        }
        let mut made = self.made();
        if made.len() == KEPT_MAX {
            made.pop_front();
        }
        made.push_back(Made {
            of: of.clone(),
            key,
            form: form.clone(),
        });
    }

    fn made(&self) -> MutexGuard<'_, VecDeque<Made<K>>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_same(a: &Bytes, b: &Bytes) -> bool {
    a.as_ptr() == b.as_ptr() && a.len() == b.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_found_by_the_text_itself() {
        let forms = Forms::default();
        let (text, like_it) = (Bytes::from(vec![1; 10]), Bytes::from(vec![1; 10]));
        forms.keep(&text, "table", &Bytes::from_static(b"a table"));
        assert_eq!(forms.find(&text.clone(), &"table").unwrap(), "a table");
        assert!(forms.find(&text, &"other").is_none());
        assert!(forms.find(&like_it, &"table").is_none());
    }

    #[test]
    fn little_is_kept() {
        let forms = Forms::default();
        let large = Bytes::from(vec![1; LARGE]);
        forms.keep(&large, 0, &Bytes::from_static(b"x"));
        assert!(forms.find(&large, &0).is_none());
        let text = Bytes::from_static(b"text");
        for key in 0..=KEPT_MAX {
            forms.keep(&text, key, &text);
        }
        assert!(forms.find(&text, &0).is_none());
        assert!(forms.find(&text, &KEPT_MAX).is_some());
    }
}
