//! A structural schema as the schema that decoding, the canonical form and apply go by.
//!
//! Scalars become [`Node::Any`]: what they must be is said by validation, in its own words, not by the decoder.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::Value;

use crate::schema::{ApplyKind, Field, Gvk, Merge, Node, Scalar, Schema, SchemaRef, Schemas, Type, TypeRef};
use crate::value::{entries, flag, get, list, text};

/// The schema of a kind; without a schema of its own anything goes.
pub fn of(schema: &Value, gvk: Gvk) -> SchemaRef {
    let mut root = object(schema, true);
    root.preserve_unknown |= schema.is_null();
    Arc::new(Schema::new(gvk, TypeRef::Own(Arc::new(root))))
}

fn object(schema: &Value, resource: bool) -> Type {
    let mut fields: Vec<Field> = entries(schema, "properties")
        .filter(|(name, _)| !resource || !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"))
        .map(|(name, schema)| field(name, schema))
        .collect();
    if resource {
        fields.extend(resource_fields());
    }
    fields.sort_by(|a, b| a.name.cmp(&b.name));
    Type {
        name: Cow::Borrowed("Unstructured"),
        fields,
        inlined: Vec::new(),
        atomic: text(schema, "x-kubernetes-map-type") == "atomic",
        preserve_unknown: flag(schema, "x-kubernetes-preserve-unknown-fields"),
    }
}

/// What every object has.
fn resource_fields() -> Vec<Field> {
    let plain = |name: &'static str, node: Node| Field {
        name: Cow::Borrowed(name),
        number: 0,
        node,
        go_name: None,
        pointer: true,
        always: true,
        nullable: false,
        merge: Merge::default(),
    };
    let mut out = vec![
        plain("apiVersion", Node::Scalar(Scalar::String)),
        plain("kind", Node::Scalar(Scalar::String)),
    ];
    if let Some(meta) = Schemas::builtin().find("meta.v1.ObjectMeta") {
        out.push(plain("metadata", Node::Struct(meta)));
    }
    out
}

fn field(name: &str, schema: &Value) -> Field {
    Field {
        name: Cow::Owned(name.to_owned()),
        number: 0,
        node: node(schema),
        go_name: None,
        pointer: true,
        always: true,
        nullable: flag(schema, "nullable"),
        merge: merge(schema),
    }
}

fn node(schema: &Value) -> Node {
    let own = |resource| Node::Struct(TypeRef::Own(Arc::new(object(schema, resource))));
    if flag(schema, "x-kubernetes-embedded-resource") {
        return own(true);
    }
    match (
        text(schema, "type"),
        get(schema, "additionalProperties"),
        get(schema, "items"),
    ) {
        ("object", Value::Object(_), _) => Node::Map(Arc::new(node(get(schema, "additionalProperties")))),
        ("object", Value::Bool(true), _) => Node::Map(Arc::new(Node::Any)),
        ("object", ..) => own(false),
        ("array", _, items @ Value::Object(_)) => Node::List(Arc::new(node(items))),
        _ => Node::Any,
    }
}

/// Whether decoding would take something away from a value of that schema; `resource` says that it is an object with
/// a kind of its own.
pub fn prunes(value: &Value, schema: &Value, resource: bool) -> bool {
    let preserve = flag(schema, "x-kubernetes-preserve-unknown-fields");
    let (members, more) = (get(schema, "properties"), get(schema, "additionalProperties"));
    let embedded = |of: &Value| flag(of, "x-kubernetes-embedded-resource");
    let known = |name: &str| resource && ["apiVersion", "kind", "metadata"].contains(&name);
    match value {
        Value::Object(map) => map.iter().any(|(name, held)| match members.get(name) {
            Some(of) => prunes(held, of, embedded(of)),
            None if more.is_object() => prunes(held, more, embedded(more)),
            None => !preserve && !known(name) && *more != Value::Bool(true),
        }),
        Value::Array(items) => {
            let of = get(schema, "items");
            of.is_object() && items.iter().any(|item| prunes(item, of, embedded(of)))
        }
        _ => false,
    }
}

fn merge(schema: &Value) -> Merge {
    let keys = || {
        let key = |name: &str| {
            let default = get(schema, "items.properties")
                .get(name)
                .and_then(|p| p.get("default"));
            (Cow::Owned(name.to_owned()), default.cloned())
        };
        list(schema, "x-kubernetes-list-map-keys")
            .iter()
            .filter_map(Value::as_str)
            .map(key)
            .collect()
    };
    let apply = match (
        text(schema, "x-kubernetes-list-type"),
        text(schema, "x-kubernetes-map-type"),
    ) {
        ("set", _) => ApplyKind::Set,
        ("map", _) => ApplyKind::Keyed(keys()),
        ("atomic", _) | (_, "atomic") => ApplyKind::Atomic,
        _ => ApplyKind::Default,
    };
    Merge {
        apply,
        ..Merge::default()
    }
}
