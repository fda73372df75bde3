//! Names that live as long as the process.
//!
//! A built-in kind's descriptor is made of constants. A custom kind's is made of what its definition says, and is
//! to be the same struct: its few short names are kept here, each once, and never given back. What a cluster
//! ever named (not what it holds) bounds the memory.

use std::collections::HashSet;
use std::sync::{LazyLock, Mutex, PoisonError};

static TEXTS: LazyLock<Mutex<HashSet<&'static str>>> = LazyLock::new(Mutex::default);
static LISTS: LazyLock<Mutex<HashSet<&'static [&'static str]>>> = LazyLock::new(Mutex::default);

/// A text, kept.
pub fn text(text: &str) -> &'static str {
    if text.is_empty() {
        return "";
    }
    let mut known = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = known.get(text) {
        return kept;
    }
    let kept: &'static str = Box::leak(text.into());
    known.insert(kept);
    kept
}

/// A list of texts, kept.
pub fn list<'t>(texts: impl IntoIterator<Item = &'t str>) -> &'static [&'static str] {
    let texts: Vec<&'static str> = texts.into_iter().map(text).collect();
    if texts.is_empty() {
        return &[];
    }
    let mut known = LISTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = known.get(texts.as_slice()) {
        return kept;
    }
    let kept: &'static [&'static str] = Box::leak(texts.into());
    known.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_is_kept_once() {
        let (a, b) = (super::list(["x", "y"]), super::list(["x", "y"]));
        assert!(std::ptr::eq(a, b) && std::ptr::eq(a[0], super::text("x")));
        assert!(super::list([]).is_empty());
    }
}
