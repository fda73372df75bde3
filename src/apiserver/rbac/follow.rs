//! Keeps the index up to date with the store.

use std::sync::{Arc, PoisonError};

use store::Entry;

use super::{Index, Rbac};
use crate::mirror::Mirror;

const PREFIX: &str = "/rbac.authorization.k8s.io/";

/// `(plural, namespace, name)` of a key below [`PREFIX`].
fn parts(key: &str) -> Option<(&str, &str, &str)> {
    let mut parts = key.strip_prefix(PREFIX)?.splitn(3, '/');
    match (parts.next()?, parts.next()?, parts.next()) {
        (plural, name, None) => Some((plural, "", name)),
        (plural, namespace, Some(name)) => Some((plural, namespace, name)),
    }
}

impl Mirror for Rbac {
    const PREFIX: &'static str = PREFIX;
    const OF: &'static str = "roles and bindings";

    fn replace(&self, entries: &[Arc<Entry>]) {
        let objects = entries.iter().filter_map(|entry| {
            let (plural, namespace, name) = parts(&entry.key)?;
            Some((plural, namespace, name, &entry.text[..]))
        });
        let all = Index::of(objects);
        *self.index.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    fn apply(&self, key: &str, text: Option<&[u8]>) {
        if let Some((plural, namespace, name)) = parts(key) {
            self.take(plural, namespace, name, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn keys_are_taken_apart() {
        let key = "/rbac.authorization.k8s.io/clusterroles/system:node";
        assert_eq!(parts(key), Some(("clusterroles", "", "system:node")));
        let key = "/rbac.authorization.k8s.io/roles/kube-system/x";
        assert_eq!(parts(key), Some(("roles", "kube-system", "x")));
        assert_eq!(parts("/core/pods/a/b"), None);
    }
}
