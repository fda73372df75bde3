//! What each keyword of a schema may be, wherever it stands (apiextensions `ValidateCustomResourceDefinitionOpenAPISchema`,
//! rules in CEL excepted).

use serde_json::Value;

use super::super::rule_check;
use super::parts::{inner, is_there, junctors, properties, property};
use crate::status::FieldError;
use crate::value::{Field, entries, flag, list, text};

/// What may not be in a schema at all.
const UNSUPPORTED: [&str; 7] = [
    "id",
    "additionalItems",
    "patternProperties",
    "definitions",
    "dependencies",
    "$ref",
    "$schema",
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];
const KEYED: &str = "this property is in x-kubernetes-list-map-keys, so it";

/// What holds of a place in a schema.
#[derive(Clone, Copy, Default)]
struct Place<'p> {
    /// Why there may be no default; empty when there may.
    no_defaults: &'p str,
    /// Whether it is part of the metadata of a resource.
    in_metadata: bool,
}

/// Whether a schema says anything for which there is no structural form.
pub fn is_unsupported(schema: &Value) -> bool {
    let here = Field::new(schema, "");
    if UNSUPPORTED.iter().any(|key| is_there(&here, key)) || schema.get("items").is_some_and(Value::is_array)
    {
        return true;
    }
    let below = ["items", "not", "additionalProperties"]
        .into_iter()
        .filter_map(|key| schema.get(key));
    let parts = ["allOf", "anyOf", "oneOf"]
        .into_iter()
        .flat_map(|key| list(schema, key));
    let members = entries(schema, "properties").map(|(_, member)| member);
    below.chain(parts).chain(members).any(is_unsupported)
}

/// What is wrong with the keywords of a whole schema.
pub fn check(schema: &Field, errors: &mut Vec<FieldError>) {
    one(schema, Place::default(), true, errors);
}

fn one(schema: &Field, place: Place<'_>, root: bool, errors: &mut Vec<FieldError>) {
    plain(schema, place, errors);
    if flag(schema.value, "uniqueItems") {
        let why = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
        errors.push(schema.get("uniqueItems").forbidden(why));
    }
    additional(schema, place, errors);
    for (name, member) in properties(schema) {
        let resource = root || flag(schema.value, "x-kubernetes-embedded-resource");
        let of_resource = resource && ["metadata", "kind", "apiVersion"].contains(&name);
        let top = format!("in top-level {name}");
        let below = Place {
            in_metadata: place.in_metadata || of_resource,
            no_defaults: if root && of_resource {
                &top
            } else {
                place.no_defaults
            },
        };
        one(&member, below, false, errors);
    }
    let below = junctors(schema).into_iter().chain(inner(schema, "items"));
    below.for_each(|part| one(&part, place, false, errors));
    preserving(schema, errors);
    map_type(schema, errors);
    list_type(schema, errors);
    list_keys(schema, errors);
    keyed_items(schema, errors);
    for rule in schema.items("x-kubernetes-validations") {
        rule_check::words(&rule, schema, errors);
    }
}

fn plain(schema: &Field, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let kind = schema.get("type");
    if !kind.is_blank() && !TYPES.contains(&kind.text()) {
        errors.push(kind.not_supported(&TYPES));
    }
    let default = schema.get("default");
    if default.is_set() && !place.no_defaults.is_empty() {
        errors.push(default.forbidden(format!("must not be set {}", place.no_defaults)));
    }
    for key in UNSUPPORTED.into_iter().filter(|key| is_there(schema, key)) {
        errors.push(schema.get(key).forbidden(format!("{key} is not supported")));
    }
    if kind.text() == "null" {
        errors.push(kind.forbidden("type cannot be set to null, use nullable as an alternative"));
    }
    let items = schema.get("items");
    if items.value.is_array() {
        errors.push(items.forbidden("items must be a schema object and not an array"));
    }
    let embedded = schema.get("x-kubernetes-embedded-resource");
    if place.in_metadata && embedded.flag() {
        errors.push(embedded.forbidden("must not be used inside of resource meta"));
    }
}

fn additional(schema: &Field, place: Place<'_>, errors: &mut Vec<FieldError>) {
    let more = schema.get("additionalProperties");
    let closed = *more.value == Value::Bool(false);
    if is_there(schema, "properties") && (more.value.is_object() || closed) {
        errors.push(more.forbidden("additionalProperties and properties are mutual exclusive"));
    }
    if more.value.is_object() {
        let below = Place {
            no_defaults: if place.in_metadata {
                "inside additionalProperties applying to object metadata"
            } else {
                place.no_defaults
            },
            ..place
        };
        one(&more, below, false, errors);
    }
}

fn preserving(schema: &Field, errors: &mut Vec<FieldError>) {
    let preserve = schema.get("x-kubernetes-preserve-unknown-fields");
    if *preserve.value == Value::Bool(false) {
        errors.push(preserve.invalid("must be true or undefined"));
    }
}

/// A keyword that goes with one type alone.
fn typed(schema: &Field, wanted: &str, key: &str, errors: &mut Vec<FieldError>) -> bool {
    let kind = schema.get("type");
    if kind.text() == wanted {
        return true;
    }
    let why = format!("must be {wanted} if {key} is specified");
    errors.push(if kind.is_blank() {
        kind.required(&why)
    } else {
        kind.invalid(why)
    });
    false
}

fn map_type(schema: &Field, errors: &mut Vec<FieldError>) {
    let map_type = schema.get("x-kubernetes-map-type");
    if map_type.is_set() {
        typed(schema, "object", "x-kubernetes-map-type", errors);
        map_type.one_of_if_set(&["atomic", "granular"], errors);
    }
}

fn list_type(schema: &Field, errors: &mut Vec<FieldError>) {
    let list_type = schema.get("x-kubernetes-list-type");
    if !list_type.is_set() {
        return;
    }
    if typed(schema, "array", "x-kubernetes-list-type", errors) && list_type.text() == "set" {
        atomic_items(&schema.get("items"), errors);
    }
    list_type.one_of_if_set(&["atomic", "set", "map"], errors);
}

/// What is in a set has no members that anybody owns.
fn atomic_items(items: &Field, errors: &mut Vec<FieldError>) {
    let (list_type, map_type) = (
        items.get("x-kubernetes-list-type"),
        items.get("x-kubernetes-map-type"),
    );
    // Kubernetes shows the list's type in both cases.
    let shown = list_type.value.as_str().unwrap_or("null");
    let wrong = match items.get("type").text() {
        "array" if list_type.is_set() && list_type.text() != "atomic" => list_type.path,
        "object" if map_type.text() != "atomic" => map_type.path,
        _ => return,
    };
    let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
    errors.push(FieldError::invalid(wrong, shown, why));
}

/// The members by which the items of a list are known.
fn list_keys(schema: &Field, errors: &mut Vec<FieldError>) {
    let (list_type, keys, items) = (
        schema.get("x-kubernetes-list-type"),
        schema.get("x-kubernetes-list-map-keys"),
        schema.get("items"),
    );
    if !keys.is_blank() && list_type.text() != "map" {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(if list_type.is_set() {
            list_type.invalid(why)
        } else {
            list_type.required(why)
        });
    }
    if list_type.text() != "map" {
        return;
    }
    if keys.is_blank() {
        errors.push(keys.required("must not be empty if x-kubernetes-list-type is map"));
    }
    let kind = items.get("type");
    if !items.is_set() {
        errors.push(items.required("must have a schema if x-kubernetes-list-type is map"));
    } else if kind.text() != "object" {
        errors.push(kind.invalid("must be object if parent array's x-kubernetes-list-type is map"));
    } else {
        for (place, key) in schema.items("x-kubernetes-list-map-keys").iter().enumerate() {
            list_key(key.text(), &items, &keys, errors);
            let before = list(schema.value, "x-kubernetes-list-map-keys")
                .iter()
                .take(place);
            if before.into_iter().any(|other| other == key.value) {
                errors.push(keys.invalid("must not contain duplicate entries"));
            }
        }
    }
}

fn list_key(key: &str, items: &Field, keys: &Field, errors: &mut Vec<FieldError>) {
    let member = property(items, key);
    if !member.is_set() {
        errors.push(keys.invalid("entries must all be names of item properties"));
    } else if ["array", "object"].contains(&text(member.value, "type")) {
        let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
        let shown = text(items.value, "type");
        errors.push(FieldError::invalid(member.path_of("type"), shown, why));
    }
}

/// Items that must be found again are never null, and always have their keys.
fn keyed_items(schema: &Field, errors: &mut Vec<FieldError>) {
    let kind = text(schema.value, "x-kubernetes-list-type");
    let items = schema.get("items");
    if !["set", "map"].contains(&kind) || !items.value.is_object() {
        return;
    }
    let nullable = items.get("nullable");
    if nullable.flag() {
        errors.push(nullable.forbidden(format!(
            "cannot be nullable when x-kubernetes-list-type is {kind}"
        )));
    }
    for key in schema
        .items("x-kubernetes-list-map-keys")
        .iter()
        .filter(|_| kind == "map")
    {
        let member = property(&items, key.text());
        if !member.is_set() {
            continue;
        }
        let required = list(items.value, "required").contains(key.value);
        if !required && !member.get("default").is_set() {
            let why = format!("{KEYED} must have a default or be a required property");
            errors.push(member.get("default").required(&why));
        }
        if flag(member.value, "nullable") {
            errors.push(
                member
                    .get("nullable")
                    .forbidden(format!("{KEYED} cannot be nullable")),
            );
        }
    }
}
