//! What a reconciler decides: the writes, the events, and when to look again.

use std::time::Duration;

use api::request::{PatchType, ResourceRef};
use client::{EventType, Object, Propagation};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

/// Names one object; the namespace is empty for cluster-scoped kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
}

impl Key {
    /// The key of that namespace and name.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<T: Object>(object: &T) -> Self {
        let meta = object.metadata();
        Self::new(
            meta.namespace.clone().unwrap_or_default(),
            meta.name.clone().unwrap_or_default(),
        )
    }
}

/// Where a write goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The resource.
    pub resource: ResourceRef,
    /// The object in it.
    pub key: Key,
    /// The part of it; empty for the whole.
    pub subresource: &'static str,
}

impl Target {
    /// The object itself.
    pub fn of<T: Object>(object: &T) -> Self {
        Self {
            resource: client::resource_of::<T>(),
            key: Key::of(object),
            subresource: "",
        }
    }
}

/// One change to the cluster.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Add an object; one that exists already counts as done.
    Create(Target, Value),
    /// Replace an object, or a subresource; carries the resource version it was made from.
    Update(Target, Value),
    /// Change an object.
    Patch(Target, PatchType, Value),
    /// Remove an object, if it is still the one with this UID; one that is gone counts as done.
    Delete {
        /// Which one.
        target: Target,
        /// UID that it must have; empty to remove any.
        uid: String,
        /// What becomes of its dependents.
        propagation: Option<Propagation>,
        /// Seconds of grace; `None` for the object's own.
        grace_seconds: Option<i64>,
        /// Resource version that it must have; `None` for any.
        version: Option<String>,
    },
}

fn value_of<T: Object>(object: &T) -> Value {
    // Serialising a k8s_openapi type into a tree cannot fail: its keys are strings.
    serde_json::to_value(object).unwrap_or_default()
}

impl Write {
    /// Adds `object`.
    pub fn create<T: Object>(object: &T) -> Self {
        Self::Create(Target::of(object), value_of(object))
    }

    /// Replaces `object`.
    pub fn update<T: Object>(object: &T) -> Self {
        Self::Update(Target::of(object), value_of(object))
    }

    /// Replaces the status of `object`.
    pub fn update_status<T: Object>(object: &T) -> Self {
        Self::Update(
            Target {
                subresource: "status",
                ..Target::of(object)
            },
            value_of(object),
        )
    }

    /// Merges `patch` into `object`.
    pub fn merge<T: Object>(object: &T, patch: Value) -> Self {
        Self::Patch(Target::of(object), PatchType::Merge, patch)
    }

    /// Applies the operations of a JSON patch to `object`; a `test` among them may refuse it.
    pub fn json_patch<T: Object>(object: &T, operations: Value) -> Self {
        Self::Patch(Target::of(object), PatchType::Json, operations)
    }

    /// Merges `patch` into the status of `object`.
    pub fn merge_status<T: Object>(object: &T, patch: Value) -> Self {
        Self::Patch(
            Target {
                subresource: "status",
                ..Target::of(object)
            },
            PatchType::Merge,
            patch,
        )
    }

    /// Removes `object`, dependents in the background.
    pub fn delete<T: Object>(object: &T) -> Self {
        Self::Delete {
            target: Target::of(object),
            uid: object.metadata().uid.clone().unwrap_or_default(),
            propagation: Some(Propagation::Background),
            grace_seconds: None,
            version: None,
        }
    }

    /// Removes `object` if nobody has changed it since it was looked at.
    pub fn delete_unchanged<T: Object>(object: &T) -> Self {
        let mut delete = Self::delete(object);
        if let Self::Delete { version, .. } = &mut delete {
            *version = object.metadata().resource_version.clone();
        }
        delete
    }

    /// Where this goes.
    pub fn target(&self) -> &Target {
        match self {
            Write::Create(target, _) | Write::Update(target, _) | Write::Patch(target, _, _) => target,
            Write::Delete { target, .. } => target,
        }
    }
}

/// Something a person should be told about.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// What it is about.
    pub about: ObjectReference,
    /// Normal or warning.
    pub kind: EventType,
    /// One word, such as `SuccessfulCreate`.
    pub reason: &'static str,
    /// The text.
    pub message: String,
}

/// What one reconciliation decided.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// Changes, carried out in order; the first failure ends the plan.
    pub writes: Vec<Write>,
    /// What to tell, each with the number of writes that must have succeeded before it is true.
    pub events: Vec<(usize, Notice)>,
    /// When to look at the object again though nothing changed.
    pub again: Option<Duration>,
}

impl Plan {
    /// Nothing to do.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds a change.
    pub fn write(&mut self, write: Write) {
        self.writes.push(write);
    }

    /// Tells about the changes planned so far, once they have succeeded.
    pub fn tell<T: Object>(&mut self, about: &T, kind: EventType, reason: &'static str, message: String) {
        let notice = Notice {
            about: client::reference(about),
            kind,
            reason,
            message,
        };
        self.events.push((self.writes.len(), notice));
    }

    /// Looks again after `wait`, or earlier if something asked for that already.
    pub fn look_again(&mut self, wait: Duration) {
        self.again = Some(self.again.map_or(wait, |before| before.min(wait)));
    }
}
