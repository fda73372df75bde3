//! What lies below an object: views of it that are written apart, and things that are asked of it.

use serde_json::Value;

use crate::status::FieldError;

/// The verbs of a status, scale or other partial view of an object.
pub const PART_VERBS: &[&str] = &["get", "patch", "update"];

/// How writes to one part of an object are confined to it.
#[derive(Clone, Copy)]
pub struct Part {
    /// `(new, old)`: keeps everything that this part's writers may not touch.
    pub prepare: fn(&mut Value, &Value),
    /// `(new, old)`: rules for the change, metadata excepted.
    pub validate: fn(&Value, &Value) -> Vec<FieldError>,
    /// Fields such a write loses, as dotted paths, for apply.
    pub reset_fields: &'static [&'static str],
}

/// A resource below an object, such as `status` or `exec`.
#[derive(Clone, Copy)]
pub struct Subresource {
    /// Path segment, such as `status`.
    pub name: &'static str,
    /// Kind of the bodies, such as `Scale`.
    pub kind: &'static str,
    /// Group of that kind when it is not the parent's; empty otherwise (see [`Subresource::version`]).
    pub group: &'static str,
    /// Version of that kind when it is not the parent's; empty when group and version are the parent's.
    pub version: &'static str,
    /// Verbs, in discovery's order.
    pub verbs: &'static [&'static str],
    /// Rules of its writes, when it is a view of the object itself; for `status` see [`Kind::part`](super::Kind::part).
    pub part: Option<Part>,
}

impl Subresource {
    /// A subresource whose bodies are of a kind in the parent's own group and version.
    pub const fn new(name: &'static str, kind: &'static str, verbs: &'static [&'static str]) -> Self {
        Self {
            name,
            kind,
            group: "",
            version: "",
            verbs,
            part: None,
        }
    }

    /// A subresource whose bodies are of a kind in another group.
    pub const fn foreign(
        name: &'static str,
        kind: &'static str,
        group: &'static str,
        version: &'static str,
        verbs: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            kind,
            group,
            version,
            verbs,
            part: None,
        }
    }

    /// The same subresource, as a view of the object itself.
    pub const fn view(self, part: Part) -> Self {
        Self {
            part: Some(part),
            ..self
        }
    }

    /// The usual `status` of a kind.
    pub const fn status(kind: &'static str) -> Self {
        Self::new("status", kind, PART_VERBS)
    }

    /// The usual `scale` (autoscaling/v1).
    pub const fn scale() -> Self {
        Self::foreign("scale", "Scale", "autoscaling", "v1", PART_VERBS)
    }
}
