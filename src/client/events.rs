//! Events: what components tell people about objects (`kubectl describe`, `kubectl events`).

use std::sync::Arc;

use api::request::PatchType;
use api::status::Status;
use base::{Clock, OnError, Tasks};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use tokio::sync::mpsc;
use tracing::debug;

use crate::aggregate::{Aggregator, Key, Step};
use crate::typed::{Client, Object};

/// Events that may wait to be written; more are dropped, as nobody may be held up by them.
const WAITING_MAX: usize = 1000;

/// Whether an event is a matter of course.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventType {
    /// It is.
    Normal,
    /// Somebody should look.
    Warning,
}

impl EventType {
    /// The text of `type`.
    pub fn name(self) -> &'static str {
        match self {
            EventType::Normal => "Normal",
            EventType::Warning => "Warning",
        }
    }
}

/// A reference to an object, as events carry it.
pub fn reference<T: Object>(object: &T) -> ObjectReference {
    let meta = object.metadata();
    ObjectReference {
        api_version: Some(T::API_VERSION.to_owned()),
        kind: Some(T::KIND.to_owned()),
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}

struct Note {
    about: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
}

/// Writes events without holding anybody up; the same event again is counted
/// up instead of written anew, and floods are cut (client-go's rules).
#[derive(Clone)]
pub struct Recorder {
    notes: mpsc::Sender<Note>,
}

impl Recorder {
    /// A recorder that speaks for `component` (such as `kubelet`) on `host`
    /// (a node's name; empty for none), writing from a task of `tasks`.
    pub fn new(client: Client, component: &str, host: &str, clock: Arc<dyn Clock>, tasks: &Tasks) -> Self {
        let (notes, mut inbox) = mpsc::channel::<Note>(WAITING_MAX);
        let mut writer = Writer {
            client,
            component: component.to_owned(),
            host: host.to_owned(),
            clock,
            aggregator: Aggregator::default(),
        };
        tasks.spawn(format!("events of {component}"), OnError::Log, async move {
            while let Some(note) = inbox.recv().await {
                if let Err(status) = writer.write(&note).await {
                    debug!(%status, reason = %note.reason, "an event was not written");
                }
            }
        });
        Self { notes }
    }

    /// A recorder that says nothing, for tests.
    pub fn silent() -> Self {
        Self {
            notes: mpsc::channel(1).0,
        }
    }

    /// Tells something about an object. Returns at once.
    pub fn event(&self, about: &ObjectReference, type_: EventType, reason: &str, message: impl Into<String>) {
        let note = Note {
            about: about.clone(),
            type_,
            reason: reason.to_owned(),
            message: message.into(),
        };
        if let Err(mpsc::error::TrySendError::Full(note)) = self.notes.try_send(note) {
            debug!(reason = %note.reason, "too many events are waiting, one is dropped");
        }
    }
}

struct Writer {
    client: Client,
    component: String,
    host: String,
    clock: Arc<dyn Clock>,
    aggregator: Aggregator,
}

impl Writer {
    async fn write(&mut self, note: &Note) -> Result<(), Status> {
        let key = key_of(note);
        let now = self.clock.now();
        match self.aggregator.observe(&key, &note.message, now) {
            Step::Drop => Ok(()),
            Step::Create(message) => self.create(&key, note, &message, now).await,
            Step::Count { name, count, message } => {
                let patch = serde_json::json!({
                    "count": count, "message": message, "lastTimestamp": Time(now),
                });
                let namespace = namespace_of(&note.about);
                match self
                    .client
                    .patch::<Event>(namespace, &name, PatchType::Strategic, &patch, "")
                    .await
                {
                    Err(status) if status.is_not_found() => {
                        self.aggregator.gone(&key, &message);
                        self.create(&key, note, &message, now).await
                    }
                    other => other.map(drop),
                }
            }
        }
    }

    async fn create(&mut self, key: &Key, note: &Note, message: &str, now: Timestamp) -> Result<(), Status> {
        let event = self.build(note, message, now);
        match self.client.create(&event).await {
            Ok(_) => {
                let name = event.metadata.name.unwrap_or_default();
                self.aggregator.written(key, message, &name, now);
                Ok(())
            }
            Err(status) => Err(status),
        }
    }

    fn build(&self, note: &Note, message: &str, now: Timestamp) -> Event {
        let name = note.about.name.as_deref().unwrap_or("unknown");
        Event {
            metadata: ObjectMeta {
                name: Some(format!("{name}.{:x}", now.as_nanosecond())),
                namespace: Some(namespace_of(&note.about).to_owned()),
                ..ObjectMeta::default()
            },
            involved_object: note.about.clone(),
            type_: Some(note.type_.name().to_owned()),
            reason: Some(note.reason.clone()),
            message: Some(message.to_owned()),
            count: Some(1),
            first_timestamp: Some(Time(now)),
            last_timestamp: Some(Time(now)),
            reporting_component: Some(self.component.clone()),
            reporting_instance: Some(self.host.clone()),
            source: Some(EventSource {
                component: Some(self.component.clone()),
                host: Some(self.host.clone()).filter(|h| !h.is_empty()),
            }),
            ..Event::default()
        }
    }
}

fn namespace_of(about: &ObjectReference) -> &str {
    about
        .namespace
        .as_deref()
        .filter(|n| !n.is_empty())
        .unwrap_or("default")
}

fn key_of(note: &Note) -> Key {
    let about = &note.about;
    let parts = [
        &about.kind,
        &about.namespace,
        &about.name,
        &about.uid,
        &about.field_path,
    ];
    let object: Vec<&str> = parts.iter().map(|p| p.as_deref().unwrap_or_default()).collect();
    Key {
        object: object.join("/"),
        type_: note.type_.name(),
        reason: note.reason.clone(),
    }
}
