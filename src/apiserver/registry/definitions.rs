//! CustomResourceDefinitions at work: what they describe is served, their names are judged, and what is left of
//! their objects goes with them.
//!
//! Every server does this for itself; what it writes is a function of the definitions, so several servers agree.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::custom::{self, FINALIZER, approval, judge};
use api::kinds;
use api::object;
use api::request::{PatchType, ResourceRef, Verb};
use api::status::Status;
use api::value::{get, list, remove, text};
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Change, StoreError};

use super::Core;
use crate::mirror::anew;
use crate::{own, stored};

/// How often a definition that waits for its objects is looked at.
const CLEANUP_INTERVAL: Duration = Duration::from_millis(300);

/// What has to be known of every definition: its names, old and new, and its conditions.
#[derive(Default)]
pub struct Definitions {
    known: BTreeMap<Place, Value>,
    /// Those that wait for their objects to go.
    ending: BTreeSet<Place>,
    revision: u64,
}

/// Group and name of a definition, so that those of a group are neighbours.
type Place = (String, String);

/// A definition is called by its plural and its group.
fn place(name: &str) -> Place {
    let group = name.split_once('.').map_or("", |(_, group)| group);
    (group.to_owned(), name.to_owned())
}

impl Definitions {
    fn get(&self, name: &str) -> Option<&Value> {
        self.known.get(&place(name))
    }

    fn put(&mut self, name: &str, definition: Option<Value>) {
        let place = place(name);
        let waits = |d: &Value| object::is_deleting(d) && object::has_finalizer(d, FINALIZER);
        if definition.as_ref().is_some_and(waits) {
            self.ending.insert(place.clone());
        } else {
            self.ending.remove(&place);
        }
        match definition {
            Some(definition) => drop(self.known.insert(place, definition)),
            None => drop(self.known.remove(&place)),
        }
    }

    fn of_group<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Value> {
        let first = (group.to_owned(), String::new());
        let from_there = self.known.range(first..);
        from_there
            .take_while(move |((of, _), _)| of == group)
            .map(|(_, definition)| definition)
    }

    /// The definitions that share a group with one.
    fn neighbours(&self, definition: &Value) -> Vec<Value> {
        self.of_group(text(definition, "spec.group")).cloned().collect()
    }

    /// Those that wait for their objects to go.
    fn terminating(&self) -> Vec<Value> {
        let found = self.ending.iter().filter_map(|place| self.known.get(place));
        found.cloned().collect()
    }

    /// Those of a group whose names were refused, which may be free by now.
    fn refused(&self, group: &str) -> Vec<Value> {
        let refused = |d: &&Value| !custom::is_true(d, "NamesAccepted");
        self.of_group(group).filter(refused).cloned().collect()
    }
}

/// A definition without its schemas, and without who wrote what; of its annotations, only who approved it.
fn slim(definition: &Value) -> Value {
    let spec = get(definition, "spec");
    let mut metadata = get(definition, "metadata").clone();
    let approved = get(&metadata, "annotations").get(approval::ANNOTATION).cloned();
    for key in ["managedFields", "annotations", "labels"] {
        remove(&mut metadata, key);
    }
    if let Some(approved) = approved {
        metadata["annotations"] = json!({approval::ANNOTATION: approved});
    }
    json!({
        "metadata": metadata,
        "spec": {"group": get(spec, "group"), "names": get(spec, "names"), "scope": get(spec, "scope")},
        "status": get(definition, "status"),
    })
}

impl Core {
    /// Serves what all definitions describe; call it before the first request.
    pub fn load_definitions(&self) -> Definitions {
        let prefix = stored::prefix(custom::GROUP, custom::PLURAL, "");
        let (revision, entries) = self.inner.store.peek_prefix(&prefix);
        let mut all = Definitions {
            revision,
            ..Definitions::default()
        };
        for entry in entries {
            self.take(&mut all, &entry.key, Some(&entry.text));
        }
        all
    }

    /// Follows the definitions for ever.
    pub async fn tend_definitions(self, mut all: Definitions) {
        let known: Vec<Value> = all.known.values().cloned().collect();
        for definition in known {
            self.attend(&all, &definition).await;
        }
        while anew(custom::PLURAL, self.drain_definitions(&mut all).await).await {
            let gone: Vec<Place> = all.known.keys().cloned().collect();
            all = self.load_definitions();
            for place in gone.iter().filter(|place| !all.known.contains_key(*place)) {
                self.inner.kinds.put(&place.1, Vec::new());
            }
        }
    }

    async fn drain_definitions(&self, all: &mut Definitions) -> Result<(), StoreError> {
        let prefix = stored::prefix(custom::GROUP, custom::PLURAL, "");
        let mut watch = self.inner.store.watch(&prefix, all.revision)?;
        loop {
            let waiting = all.terminating();
            let event = tokio::select! {
                event = watch.next() => event,
                () = tokio::time::sleep(CLEANUP_INTERVAL), if !waiting.is_empty() => {
                    for definition in waiting {
                        self.attend(all, &definition).await;
                    }
                    continue;
                }
            };
            let Some(event) = event else { return Ok(()) };
            let event = event?;
            all.revision = event.revision;
            let text = matches!(event.kind, Change::Put).then_some(&event.entry.text);
            let group = self.take(all, &event.entry.key, text);
            let name = event.entry.key.rsplit('/').next().unwrap_or_default();
            if let Some(definition) = all.get(name).cloned() {
                self.attend(all, &definition).await;
            }
            for definition in all.refused(&group) {
                self.attend(all, &definition).await;
            }
        }
    }

    /// Notes a definition as it is now, and serves what it describes. Returns its group.
    fn take(&self, all: &mut Definitions, key: &str, text: Option<&Bytes>) -> String {
        let name = key.rsplit('/').next().unwrap_or_default();
        let group = place(name).0;
        let definition: Option<Value> = text.and_then(|text| serde_json::from_slice(text).ok());
        let (Some(definition), Some(text)) = (definition, text) else {
            self.inner.kinds.put(name, Vec::new());
            all.put(name, None);
            return group;
        };
        self.inner.kinds.put(name, custom::kinds(&definition, text));
        all.put(name, Some(slim(&definition)));
        group
    }

    /// Brings a definition's status up to date, or goes on with its end.
    async fn attend(&self, all: &Definitions, definition: &Value) {
        let done = if object::is_deleting(definition) {
            self.clean_up(definition).await
        } else {
            self.judge_definition(all, definition).await
        };
        match done {
            Ok(()) => {}
            // The change that was in the way comes as an event.
            Err(status) if status.is_conflict() || status.is_not_found() => {}
            Err(status) => {
                let name = object::name(definition);
                tracing::warn!(definition = name, error = %status, "could not tend a custom resource definition");
            }
        }
    }

    async fn judge_definition(&self, all: &Definitions, definition: &Value) -> Result<(), Status> {
        let now = self.inner.config.clock.now();
        let verdict = judge(definition, &all.neighbours(definition), now);
        if verdict.status == *get(definition, "status") {
            return Ok(());
        }
        self.write_status(definition, verdict.status).await
    }

    async fn write_status(&self, definition: &Value, status: Value) -> Result<(), Status> {
        let body = json!({
            "metadata": {"resourceVersion": object::resource_version(definition)}, "status": status,
        });
        self.patch_definition(definition, "status", &body).await
    }

    async fn patch_definition(&self, definition: &Value, part: &str, body: &Value) -> Result<(), Status> {
        let resource = ResourceRef::new(custom::GROUP, "v1", custom::PLURAL);
        let name = object::name(definition);
        let mut request = own::request(Verb::Patch(PatchType::Merge), resource, "", name);
        request.subresource = part.to_owned();
        request.body = body.to_string().into();
        self.change(&request).await.map(drop)
    }

    /// Deletes what is left of a definition's objects, then lets the definition go.
    async fn clean_up(&self, definition: &Value) -> Result<(), Status> {
        if !object::has_finalizer(definition, FINALIZER) {
            return Ok(());
        }
        if !custom::is_true(definition, "Terminating") {
            let mut status = get(definition, "status").clone();
            let time = object::time_text(self.inner.config.clock.now());
            let message = "CustomResource deletion is in progress";
            custom::condition(
                &mut status,
                "Terminating",
                "True",
                "InstanceDeletionInProgress",
                message,
                &time,
            );
            return self.write_status(definition, status).await;
        }
        if self.delete_objects(definition).await? > 0 {
            return Ok(());
        }
        let left: Vec<&Value> = list(definition, "metadata.finalizers")
            .iter()
            .filter(|f| *f != FINALIZER)
            .collect();
        let body = json!({"metadata": {
            "resourceVersion": object::resource_version(definition), "finalizers": left,
        }});
        self.patch_definition(definition, "", &body).await
    }

    /// Asks every object of a definition to go; returns how many there were.
    async fn delete_objects(&self, definition: &Value) -> Result<usize, Status> {
        let (group, plural) = (
            text(definition, "spec.group"),
            text(definition, "status.acceptedNames.plural"),
        );
        // A definition that is named as a kind of the server's own has no objects: those are the server's.
        let built_in = kinds::all()
            .iter()
            .any(|kind| kind.group == group && kind.plural == plural);
        if plural.is_empty() || built_in {
            return Ok(0);
        }
        let prefix = stored::prefix(group, plural, "");
        let (_, entries) = self.inner.store.peek_prefix(&prefix);
        let version = self
            .inner
            .kinds
            .all()
            .iter()
            .find(|k| k.group == group && k.plural == plural)
            .map(|k| k.version);
        let Some(version) = version else { return Ok(0) };
        for entry in &entries {
            let place = entry.key.strip_prefix(&prefix).unwrap_or_default();
            let (namespace, name) = place.split_once('/').unwrap_or(("", place));
            let resource = ResourceRef::new(group, version, plural);
            match self
                .delete(&own::request(Verb::Delete, resource, namespace, name))
                .await
            {
                Ok(_) => {}
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        Ok(entries.len())
    }
}
