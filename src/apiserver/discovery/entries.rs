//! What is said of one resource.

use api::kind::{Kind, Subresource};
use serde_json::{Value, json};

/// A resource in a plain list.
pub(super) fn resource(kind: &Kind) -> Value {
    let mut value = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    set_lists(&mut value, kind);
    if !kind.storage_version_hash.is_empty() {
        value["storageVersionHash"] = kind.storage_version_hash.into();
    }
    value
}

/// A part of a resource in a plain list.
pub(super) fn part(kind: &Kind, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", kind.plural, sub.name),
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": sub.kind,
        "verbs": sub.verbs,
    });
    if !sub.version.is_empty() {
        value["group"] = sub.group.into();
        value["version"] = sub.version.into();
    }
    value
}

/// A resource, its parts included, in aggregated discovery.
pub(super) fn aggregated_resource(kind: &Kind) -> Value {
    let own = (kind.group, kind.version);
    let response =
        |group: &str, version: &str, kind: &str| json!({"group": group, "version": version, "kind": kind});
    let mut value = json!({
        "resource": kind.plural,
        "responseKind": response(own.0, own.1, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    set_lists(&mut value, kind);
    let parts = kind.subresources.iter().map(|sub| {
        let (group, version) = if sub.version.is_empty() {
            own
        } else {
            (sub.group, sub.version)
        };
        json!({
            "subresource": sub.name,
            "responseKind": response(group, version, sub.kind),
            "verbs": sub.verbs,
        })
    });
    let parts: Vec<Value> = parts.collect();
    if !parts.is_empty() {
        value["subresources"] = parts.into();
    }
    value
}

fn set_lists(value: &mut Value, kind: &Kind) {
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
}
