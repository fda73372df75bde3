//! What may be said in the queries and paths of operations.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::form::Form;
use crate::schema::{Node, Scalar, Schemas};

/// One parameter, before it is written down.
#[derive(Clone)]
pub(super) struct Parameter {
    name: Cow<'static, str>,
    /// JSON type.
    of: &'static str,
    /// For generated clients; may be empty.
    description: &'static str,
}

const fn parameter(name: &'static str, of: &'static str, description: &'static str) -> Parameter {
    Parameter {
        name: Cow::Borrowed(name),
        of,
        description,
    }
}

pub(super) const NAME: Parameter = parameter("name", "string", "name of the object");
pub(super) const NAMESPACE: Parameter = parameter("namespace", "string", "namespace of the object");
/// What follows `proxy/`.
pub(super) const PATH: Parameter = parameter("path", "string", "path at the program behind the proxy");
pub(super) const PRETTY: Parameter = parameter("pretty", "string", "'true' indents the answer");

pub(super) const LIST: &[Parameter] = &[
    parameter(
        "allowWatchBookmarks",
        "boolean",
        "a watch also sends events of type BOOKMARK, which only name a resourceVersion",
    ),
    parameter(
        "continue",
        "string",
        "the token of the page before, to get the next one",
    ),
    parameter("fieldSelector", "string", "only objects with these fields"),
    parameter("labelSelector", "string", "only objects with these labels"),
    parameter(
        "limit",
        "integer",
        "most objects in an answer; the rest follows with continue",
    ),
    parameter(
        "resourceVersion",
        "string",
        "which state to show, together with resourceVersionMatch",
    ),
    parameter(
        "resourceVersionMatch",
        "string",
        "Exact or NotOlderThan: how resourceVersion is meant",
    ),
    parameter(
        "sendInitialEvents",
        "boolean",
        "a watch begins with the objects there are, followed by a bookmark",
    ),
    parameter(
        "timeoutSeconds",
        "integer",
        "seconds after which a list or watch ends",
    ),
    parameter("watch", "boolean", "changes as they happen, instead of a list"),
];

const DRY_RUN: Parameter = parameter("dryRun", "string", "'All' does everything but keep the outcome");

pub(super) const WRITE: &[Parameter] = &[
    DRY_RUN,
    parameter(
        "fieldManager",
        "string",
        "in whose name fields are set; needed by apply",
    ),
    parameter(
        "fieldValidation",
        "string",
        "Ignore, Warn or Strict: what becomes of unknown and duplicate fields",
    ),
];

pub(super) const FORCE: Parameter = parameter(
    "force",
    "boolean",
    "an apply takes fields over from others who have set them",
);

pub(super) const DELETE: &[Parameter] = &[
    DRY_RUN,
    parameter(
        "gracePeriodSeconds",
        "integer",
        "seconds that the object may take to end; 0 deletes at once",
    ),
    parameter(
        "ignoreStoreReadErrorWithClusterBreakingPotential",
        "boolean",
        "deletes an object even if it cannot be read any more",
    ),
    parameter("orphanDependents", "boolean", "deprecated: use propagationPolicy"),
    parameter(
        "propagationPolicy",
        "string",
        "Orphan, Background or Foreground: what becomes of dependents",
    ),
];

/// The parameters that an options type (`core.v1.PodExecOptions`) stands for.
pub(super) fn of_options(type_name: &str) -> Vec<Parameter> {
    let Some(found) = Schemas::builtin().find(type_name) else {
        return Vec::new();
    };
    let fields = found.get().fields.iter();
    let own = fields.filter(|field| !matches!(field.name.as_ref(), "apiVersion" | "kind"));
    let parameter = |name: &Cow<'static, str>, node: &Node| Parameter {
        name: name.clone(),
        of: type_of(node),
        description: "",
    };
    own.map(|field| parameter(&field.name, &field.node)).collect()
}

/// The type in a query: of a list, that of its items, since it is given once for each.
fn type_of(node: &Node) -> &'static str {
    match node {
        Node::List(item) => type_of(item),
        Node::Scalar(Scalar::Bool) => "boolean",
        Node::Scalar(Scalar::Int32 | Scalar::Int64) => "integer",
        _ => "string",
    }
}

impl Parameter {
    /// The entry of an operation's or a path's `parameters`; `place` is `query` or `path`.
    pub(super) fn write(&self, place: &str, form: Form) -> Value {
        let (name, of) = (&self.name, self.of);
        let mut made = match form {
            Form::V2 => json!({"name": name, "in": place, "type": of, "uniqueItems": true}),
            Form::V3 => json!({"name": name, "in": place, "schema": {"type": of, "uniqueItems": true}}),
        };
        if !self.description.is_empty() {
            made["description"] = self.description.into();
        }
        if place == "path" {
            made["required"] = true.into();
        }
        made
    }
}
