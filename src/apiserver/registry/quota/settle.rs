//! Keeps in the status of quotas what is used: after what was removed or has ended, and of quotas that are new.
//!
//! What is counted is read after the quota, and written only if the quota is still as it was read: whoever is let in
//! meanwhile changes it. So no count is ever too low, and one that is right is not written again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use api::object;
use api::pod::Amounts;
use api::status::Status;
use api::value;
use serde_json::Value;
use store::{Change, Entry, Event, StoreError};

use crate::admission::quota::{Counted, counted_as, settled, sum};
use crate::mirror::anew;
use crate::stored;
use crate::vault::Watch;

use super::super::{Core, refuse, text};

/// What is removed together is counted together.
const SETTLE: Duration = Duration::from_millis(50);
/// How long a store that refuses is left alone.
const PAUSE: Duration = Duration::from_millis(500);
/// What changes without being written, such as a pod on a lost node, is found out this often (Kubernetes' resync).
const EVERY: Duration = Duration::from_secs(300);

impl Core {
    /// Keeps the status of quotas right for ever.
    pub async fn keep_quotas(self) {
        while anew("what quotas count", self.keep_quotas_until_broken().await).await {}
    }

    async fn keep_quotas_until_broken(&self) -> Result<(), StoreError> {
        let store = &self.inner.store;
        let mut watch = store.watch("/", store.revision())?;
        let mut stale = self.namespaces_with_quotas();
        let mut full = tokio::time::interval(EVERY);
        full.reset();
        loop {
            let namespaces = std::mem::take(&mut stale);
            for namespace in namespaces {
                if let Err(status) = self.settle_quotas(&namespace).await {
                    tracing::warn!(%status, namespace, "could not settle quotas, trying again");
                    stale.insert(namespace);
                }
            }
            if !stale.is_empty() {
                tokio::time::sleep(PAUSE).await;
            } else {
                tokio::select! {
                    event = watch.next() => {
                        let event = event.ok_or(StoreError::Closed)??;
                        note(&mut stale, &event);
                    }
                    _ = full.tick() => stale = self.namespaces_with_quotas(),
                }
            }
            if !stale.is_empty() {
                tokio::time::sleep(SETTLE).await;
                drain(&mut watch, &mut stale)?;
            }
        }
    }

    fn namespaces_with_quotas(&self) -> BTreeSet<String> {
        let prefix = stored::prefix("", "resourcequotas", "");
        let (_, entries) = self.inner.store.peek_prefix(&prefix);
        let places = entries.iter().filter_map(|entry| place(&entry.key));
        places.map(|place| place.namespace.to_owned()).collect()
    }

    async fn settle_quotas(&self, namespace: &str) -> Result<(), Status> {
        let prefix = stored::prefix("", "resourcequotas", namespace);
        let (_, entries) = self.inner.store.peek_prefix(&prefix);
        for entry in entries {
            let quota = text::parse(&entry)?;
            if object::is_deleting(&quota) {
                continue;
            }
            let used = self.used(&quota, namespace)?;
            let Some(new) = settled(&quota, &used) else {
                continue;
            };
            match self.inner.store.commit(vec![self.quota_op(&new)?]).await {
                // Somebody was let in or changed it meanwhile, which is an event by which it is looked at again.
                Err(StoreError::Precondition { .. }) => {}
                other => drop(other.map_err(refuse::status)?),
            }
        }
        Ok(())
    }

    /// What is used of what a quota counts.
    fn used(&self, quota: &Value, namespace: &str) -> Result<Amounts, Status> {
        let now = self.inner.config.clock.now();
        let names = value::entries(quota, "spec.hard");
        let sorts: BTreeSet<Counted<'_>> = names.filter_map(|(name, _)| counted_as(name)).collect();
        let mut used = Amounts::new();
        for sort in sorts {
            let objects = self.objects_of(&sort, namespace)?;
            used.extend(sum(quota, &sort, objects.iter(), now));
        }
        Ok(used)
    }

    fn objects_of(&self, sort: &Counted<'_>, namespace: &str) -> Result<Vec<Value>, Status> {
        let prefix = stored::prefix(sort.group, sort.plural, namespace);
        let (_, entries) = self.inner.store.peek_prefix(&prefix);
        let read = |entry: &Arc<Entry>| match is_looked_into(sort) {
            true => text::parse(entry),
            // One more of them is all that counts.
            false => Ok(Value::Null),
        };
        entries.iter().map(read).collect()
    }
}

fn is_looked_into(sort: &Counted<'_>) -> bool {
    let sorts = [
        ("", "pods"),
        ("", "services"),
        ("", "persistentvolumeclaims"),
        ("resource.k8s.io", "resourceclaims"),
    ];
    sorts.contains(&(sort.group, sort.plural))
}

/// Where an object of a namespace is stored.
struct Place<'a> {
    plural: &'a str,
    namespace: &'a str,
}

fn place(key: &str) -> Option<Place<'_>> {
    let mut parts = key.strip_prefix('/')?.split('/');
    let (_, plural, namespace, _) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    Some(Place { plural, namespace })
}

/// Notes the namespace of a change after which less may be used, or whose quota asks for something else.
fn note(stale: &mut BTreeSet<String>, event: &Event) {
    let Some(place) = place(&event.entry.key) else {
        return;
    };
    let field = |name: &str| {
        let fields = &event.entry.header.fields;
        fields
            .iter()
            .find(|(field, _)| field == name)
            .map(|(_, is)| is.as_str())
    };
    let matters = match (event.kind == Change::Put, place.plural) {
        (false, plural) => plural != "events",
        (_, "resourcequotas" | "services" | "persistentvolumeclaims") => true,
        (_, "pods") => matches!(field("status.phase"), Some("Succeeded" | "Failed")),
        _ => false,
    };
    if matters {
        stale.insert(place.namespace.to_owned());
    }
}

fn drain(watch: &mut Watch, stale: &mut BTreeSet<String>) -> Result<(), StoreError> {
    while let Some(event) = watch.try_next() {
        let event = event?;
        note(stale, &event);
    }
    Ok(())
}
