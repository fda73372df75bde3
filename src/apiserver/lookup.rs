//! Reading stored objects from memory, for decisions that cannot wait:
//! authentication (does the pod a token is bound to still exist?),
//! authorisation (roles, bindings, what runs on a node).

use bytes::Bytes;

/// One stored object as the cache has it.
#[derive(Clone, Debug)]
pub struct Found {
    /// UID of the object.
    pub uid: String,
    /// Revision of its last change.
    pub revision: u64,
    /// Its JSON text.
    pub text: Bytes,
}

/// Cached objects by name. Not linearizable: it may trail the last write by a moment.
pub trait Lookup: Send + Sync + 'static {
    /// The object of that name; `namespace` is empty for cluster scope.
    fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Found>;

    /// Every object of that kind, in all namespaces when `namespace` is empty.
    fn all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Found>;
}

/// The key under which an object is stored.
pub fn key(group: &str, plural: &str, namespace: &str, name: &str) -> String {
    let mut text = prefix(group, plural, namespace);
    text.push_str(name);
    text
}

/// The prefix of the keys of a kind's objects, ending in `/`.
pub fn prefix(group: &str, plural: &str, namespace: &str) -> String {
    let group = if group.is_empty() { "core" } else { group };
    if namespace.is_empty() { format!("/{group}/{plural}/") } else { format!("/{group}/{plural}/{namespace}/") }
}

