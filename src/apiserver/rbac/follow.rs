//! Keeps the index up to date with the store.

use std::sync::Arc;

use store::{Change, Store, StoreError};

use super::{Index, Rbac};

const PREFIX: &str = "/rbac.authorization.k8s.io/";

/// `(plural, namespace, name)` of a key below [`PREFIX`].
fn parts(key: &str) -> Option<(&str, &str, &str)> {
    let mut parts = key.strip_prefix(PREFIX)?.splitn(3, '/');
    match (parts.next()?, parts.next()?, parts.next()) {
        (plural, name, None) => Some((plural, "", name)),
        (plural, namespace, Some(name)) => Some((plural, namespace, name)),
    }
}

impl Rbac {
    /// Takes in everything stored so far; returns the revision from which to follow.
    pub(crate) fn load(&self, store: &Store) -> u64 {
        let (revision, entries) = store.peek_prefix(PREFIX);
        let objects = entries.iter().filter_map(|entry| {
            let (plural, namespace, name) = parts(&entry.key)?;
            Some((plural, namespace, name, &entry.text[..]))
        });
        self.replace(Index::of(objects));
        revision
    }

    /// Follows the store from `revision` on, for ever. A watch that breaks is begun anew.
    pub(crate) async fn follow(self: Arc<Self>, store: Store, mut revision: u64) {
        loop {
            match self.drain(&store, revision).await {
                Err(StoreError::Closed) => return,
                Err(error) => tracing::warn!(%error, "watching roles and bindings broke off"),
                Ok(()) => {}
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
            revision = self.load(&store);
        }
    }

    async fn drain(&self, store: &Store, revision: u64) -> Result<(), StoreError> {
        let mut watch = store.watch(PREFIX, revision)?;
        while let Some(event) = watch.next().await {
            let event = event?;
            let Some((plural, namespace, name)) = parts(&event.entry.key) else {
                continue;
            };
            let text = matches!(event.kind, Change::Put).then_some(&event.entry.text[..]);
            self.apply(plural, namespace, name, text);
        }
        Ok(())
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
