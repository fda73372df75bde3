//! What happens in a cache.

use std::sync::Arc;

/// Something that happened to a cached object.
#[derive(Debug)]
pub enum Change<T> {
    /// It came or changed; the second is what it was before.
    Applied(Arc<T>, Option<Arc<T>>),
    /// It went; this is its last known state.
    Deleted(Arc<T>),
}

impl<T> Change<T> {
    /// The object in its newest known state.
    pub fn object(&self) -> &Arc<T> {
        match self {
            Change::Applied(object, _) | Change::Deleted(object) => object,
        }
    }
}

impl<T> Clone for Change<T> {
    fn clone(&self) -> Self {
        match self {
            Change::Applied(new, old) => Change::Applied(new.clone(), old.clone()),
            Change::Deleted(last) => Change::Deleted(last.clone()),
        }
    }
}
