//! Reading stored objects from memory, for decisions that cannot wait:
//! authentication (does the pod a token is bound to still exist?),
//! authorisation (roles, bindings, what runs on a node).

use std::sync::Arc;

use bytes::Bytes;
use store::Entry;

use crate::stored::{key, prefix};
use crate::vault::Vault;

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

    /// The objects of that kind, in all namespaces when `namespace` is empty, whose selectable
    /// field has that value; every one of them when `field` is empty.
    fn selected(&self, group: &str, plural: &str, namespace: &str, field: &str, value: &str) -> Vec<Found>;
}

/// A [`Lookup`] over the store's own cache.
#[derive(Clone)]
pub struct StoreLookup(pub Vault);

impl Lookup for StoreLookup {
    fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Found> {
        self.0
            .peek(&key(group, plural, namespace, name))
            .map(|entry| found(&entry))
    }

    fn selected(&self, group: &str, plural: &str, namespace: &str, field: &str, value: &str) -> Vec<Found> {
        let (_, entries) = self.0.peek_prefix(&prefix(group, plural, namespace));
        let wanted = |entry: &&Arc<Entry>| {
            field.is_empty()
                || entry
                    .header
                    .fields
                    .iter()
                    .any(|(name, is)| name == field && is == value)
        };
        entries.iter().filter(wanted).map(|entry| found(entry)).collect()
    }
}

fn found(entry: &Entry) -> Found {
    Found {
        uid: entry.header.uid.clone(),
        revision: entry.revision,
        text: entry.text.clone(),
    }
}

/// A [`Lookup`] in which there is nothing.
pub struct Nothing;

impl Lookup for Nothing {
    fn find(&self, _: &str, _: &str, _: &str, _: &str) -> Option<Found> {
        None
    }

    fn selected(&self, _: &str, _: &str, _: &str, _: &str, _: &str) -> Vec<Found> {
        Vec::new()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::Value;

    /// Objects written down in a test. Selectable fields are read as paths of the object.
    #[derive(Clone, Default)]
    pub(crate) struct Fixed(Vec<(String, Value)>);

    impl Fixed {
        pub(crate) fn with(mut self, group: &str, plural: &str, object: Value) -> Self {
            let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
            self.0
                .push((key(group, plural, &text("namespace"), &text("name")), object));
            self
        }
    }

    fn found(object: &Value) -> Found {
        let uid = object["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        Found {
            uid,
            revision: 1,
            text: object.to_string().into(),
        }
    }

    impl Lookup for Fixed {
        fn find(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Found> {
            let wanted = key(group, plural, namespace, name);
            self.0
                .iter()
                .find(|(key, _)| *key == wanted)
                .map(|(_, object)| found(object))
        }

        fn selected(
            &self,
            group: &str,
            plural: &str,
            namespace: &str,
            field: &str,
            value: &str,
        ) -> Vec<Found> {
            let wanted = prefix(group, plural, namespace);
            let pointer = format!("/{}", field.replace('.', "/"));
            let matches = |object: &Value| {
                field.is_empty() || object.pointer(&pointer).and_then(Value::as_str) == Some(value)
            };
            let all = self.0.iter().filter(|(key, _)| key.starts_with(&wanted));
            all.filter(|(_, object)| matches(object))
                .map(|(_, object)| found(object))
                .collect()
        }
    }
}
