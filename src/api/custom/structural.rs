//! What a definition's schema must be like: structural, so that decoding, pruning and defaulting are well defined.

use serde_json::{Value, json};

use super::compiled::Patterns;
use super::{check, rule_check};
use crate::cel::strings_pattern;
use crate::status::FieldError;
use crate::value::{Field, entries, flag, list, text};

/// What may not be in a schema at all, and why.
const FORBIDDEN: [(&str, &str); 7] = [
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies are not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("id", "id is not supported"),
    ("$schema", "$schema is not supported"),
    ("$ref", "$ref is not supported"),
];
/// What may stand only outside `allOf`, `anyOf`, `oneOf` and `not`.
const STRUCTURE: [&str; 11] = [
    "type",
    "default",
    "additionalProperties",
    "nullable",
    "title",
    "description",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
];
const TYPES: [&str; 6] = ["array", "boolean", "integer", "number", "object", "string"];

/// What is wrong with an `openAPIV3Schema`.
pub fn validate(schema: &Field) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let kind = schema.get("type");
    match kind.text() {
        "" => errors.push(kind.required("must not be empty at the root")),
        "object" => {}
        _ => errors.push(kind.invalid("must be object at the root")),
    }
    if flag(schema.value, "nullable") {
        errors.push(
            schema
                .get("nullable")
                .forbidden("nullable cannot be true at the root"),
        );
    }
    metadata(&below(schema, "properties", "metadata"), &mut errors);
    structure(schema, Place { root: true }, &mut errors);
    // What rules say of a schema that is wrong itself would help nobody.
    if errors.is_empty() {
        rule_check::rules(schema, &mut errors);
    }
    errors
}

/// Where in a schema we are.
#[derive(Clone, Copy)]
struct Place {
    root: bool,
}

/// The schema of a member, with a path such as `properties[name]`.
fn below<'v>(schema: &Field<'v>, key: &str, name: &str) -> Field<'v> {
    let path = format!("{}[{name}]", schema.path_of(key));
    Field::new(
        schema
            .value
            .get(key)
            .and_then(|m| m.get(name))
            .unwrap_or(&Value::Null),
        path,
    )
}

fn is_there(schema: &Field, key: &str) -> bool {
    schema
        .value
        .get(key)
        .is_some_and(|v| !v.is_null() && *v != json!(false) && *v != json!([]) && *v != json!({}))
}

/// A resource's metadata is known; only its name can be narrowed.
fn metadata(schema: &Field, errors: &mut Vec<FieldError>) {
    if !schema.is_set() {
        return;
    }
    let more = entries(schema.value, "properties").any(|(name, _)| name != "name" && name != "generateName");
    if more {
        errors.push(schema.get("properties").forbidden(
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

fn structure(schema: &Field, place: Place, errors: &mut Vec<FieldError>) {
    forbidden(schema, errors);
    extensions(schema, place, errors);
    let kind = schema.get("type");
    if !kind.is_blank() && !TYPES.contains(&kind.text()) {
        errors.push(kind.not_supported(&TYPES));
    }
    if kind.text() == "array" && !is_there(schema, "items") {
        errors.push(schema.get("items").required("must be specified"));
    }
    let more = schema.get("additionalProperties");
    if is_there(schema, "properties") && (more.value.is_object() || more.value == &json!(false)) {
        errors.push(more.forbidden("additionalProperties and properties are mutual exclusive"));
    }
    let pattern = schema.get("pattern");
    if !pattern.is_blank()
        && let Err(why) = strings_pattern(pattern.text())
    {
        errors.push(pattern.invalid(format!("must be a valid regular expression, but isn't: {why}")));
    }
    lists(schema, errors);
    members(schema, place, errors);
    for key in ["allOf", "anyOf", "oneOf"] {
        for part in schema.items(key) {
            alternative(&part, schema, errors);
        }
    }
    if schema.get("not").value.is_object() {
        alternative(&schema.get("not"), schema, errors);
    }
    default(schema, errors);
}

fn members(schema: &Field, place: Place, errors: &mut Vec<FieldError>) {
    for (name, value) in entries(schema.value, "properties") {
        let member = Field::new(value, format!("{}[{name}]", schema.path_of("properties")));
        if place.root && matches!(name.as_str(), "apiVersion" | "kind") {
            let kind = member.get("type");
            if !kind.is_blank() && kind.text() != "string" {
                errors.push(kind.invalid("must be string"));
            }
            continue;
        }
        if place.root && name == "metadata" {
            if member.get("type").text() != "object" {
                errors.push(member.get("type").invalid("must be object"));
            }
            continue;
        }
        typed(&member, "must not be empty for specified object fields", errors);
        structure(&member, Place { root: false }, errors);
    }
    let more = schema.get("additionalProperties");
    if more.value.is_object() {
        typed(&more, "must not be empty for specified object fields", errors);
        structure(&more, Place { root: false }, errors);
    }
    let items = schema.get("items");
    if items.value.is_array() {
        errors.push(items.forbidden("items must be a schema object and not an array"));
    } else if items.value.is_object() {
        typed(&items, "must not be empty for specified array items", errors);
        structure(&items, Place { root: false }, errors);
    }
}

/// A type, or something that stands for one.
fn typed(schema: &Field, why: &str, errors: &mut Vec<FieldError>) {
    let open = flag(schema.value, "x-kubernetes-int-or-string")
        || flag(schema.value, "x-kubernetes-preserve-unknown-fields");
    if schema.get("type").is_blank() && !open {
        errors.push(schema.get("type").required(why));
    }
}

fn forbidden(schema: &Field, errors: &mut Vec<FieldError>) {
    for (key, why) in FORBIDDEN {
        if is_there(schema, key) {
            errors.push(schema.get(key).forbidden(why));
        }
    }
    if flag(schema.value, "uniqueItems") {
        errors.push(
            schema.get("uniqueItems").forbidden(
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
            ),
        );
    }
}

fn extensions(schema: &Field, place: Place, errors: &mut Vec<FieldError>) {
    let kind = schema.get("type");
    let preserve = schema.get("x-kubernetes-preserve-unknown-fields");
    if preserve.value == &json!(false) {
        errors.push(preserve.invalid("must be true or undefined"));
    }
    if flag(schema.value, "x-kubernetes-embedded-resource") {
        if kind.text() != "object" {
            errors.push(kind.invalid("must be object if x-kubernetes-embedded-resource is true"));
        }
        if !is_there(schema, "properties") && !preserve.flag() {
            let why = "must not be empty if x-kubernetes-embedded-resource is true without \
                       x-kubernetes-preserve-unknown-fields";
            errors.push(schema.get("properties").required(why));
        }
        metadata(&below(schema, "properties", "metadata"), errors);
    }
    if flag(schema.value, "x-kubernetes-int-or-string") {
        if place.root {
            errors.push(
                schema
                    .get("x-kubernetes-int-or-string")
                    .forbidden("must be false at the root"),
            );
        }
        if !kind.is_blank() {
            errors.push(kind.invalid("must be empty if x-kubernetes-int-or-string is true"));
        }
    }
    let map_type = schema.get("x-kubernetes-map-type");
    if map_type.is_set() {
        map_type.one_of_if_set(&["atomic", "granular"], errors);
        if kind.text() != "object" {
            errors.push(kind.invalid("must be object if x-kubernetes-map-type is specified"));
        }
    }
}

fn lists(schema: &Field, errors: &mut Vec<FieldError>) {
    let (list_type, keys) = (
        schema.get("x-kubernetes-list-type"),
        schema.get("x-kubernetes-list-map-keys"),
    );
    if !list_type.is_set() {
        if !keys.is_blank() {
            errors.push(list_type.required("must be map if x-kubernetes-list-map-keys is non-empty"));
        }
        return;
    }
    list_type.one_of(&["atomic", "map", "set"], errors);
    if text(schema.value, "type") != "array" {
        errors.push(
            schema
                .get("type")
                .invalid("must be array if x-kubernetes-list-type is specified"),
        );
    }
    let items = schema.get("items");
    match list_type.text() {
        "map" => {
            if keys.is_blank() {
                errors.push(keys.required("must not be empty if x-kubernetes-list-type is map"));
            }
            if text(items.value, "type") != "object" {
                errors.push(
                    items
                        .get("type")
                        .invalid("must be object if parent array's x-kubernetes-list-type is map"),
                );
            }
            for key in schema.items("x-kubernetes-list-map-keys") {
                list_key(&key, &items, errors);
            }
            schema.unique("x-kubernetes-list-map-keys", "", errors);
        }
        "set" => {
            let structured = matches!(text(items.value, "type"), "object" | "array");
            let atomic = text(items.value, "x-kubernetes-map-type") == "atomic"
                || text(items.value, "x-kubernetes-list-type") == "atomic";
            if structured && !atomic {
                let key = if text(items.value, "type") == "object" {
                    "x-kubernetes-map-type"
                } else {
                    "x-kubernetes-list-type"
                };
                let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
                errors.push(items.get(key).invalid(why));
            }
        }
        _ => {}
    }
}

fn list_key(key: &Field, items: &Field, errors: &mut Vec<FieldError>) {
    let Some(property) = items.value.get("properties").and_then(|p| p.get(key.text())) else {
        errors.push(key.invalid("entries must all be names of item properties"));
        return;
    };
    if matches!(text(property, "type"), "object" | "array") {
        let at = format!("{}[{}].type", items.path_of("properties"), key.text());
        errors.push(FieldError::invalid(
            at,
            text(property, "type"),
            "must be a scalar type if parent array's x-kubernetes-list-type is map",
        ));
    }
    let required = list(items.value, "required").iter().any(|r| r == key.value);
    if !required && property.get("default").is_none() {
        let at = format!("{}[{}].default", items.path_of("properties"), key.text());
        let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
        errors.push(FieldError::required(at, why));
    }
}

/// A schema inside `allOf` and its like: rules about values, no structure of its own.
fn alternative(part: &Field, outer: &Field, errors: &mut Vec<FieldError>) {
    forbidden(part, errors);
    let int_or_string = flag(outer.value, "x-kubernetes-int-or-string");
    for key in STRUCTURE {
        if is_there(part, key) && !(key == "type" && int_or_string) {
            errors.push(part.get(key).forbidden("must be empty to be structural"));
        }
    }
    for (name, value) in entries(part.value, "properties") {
        let inner = Field::new(value, format!("{}[{name}]", part.path_of("properties")));
        let own = below(outer, "properties", name);
        if own.is_set() {
            alternative(&inner, &own, errors);
        } else if !flag(outer.value, "x-kubernetes-preserve-unknown-fields") {
            errors.push(own.required(&format!("because it is defined in {}", inner.path)));
        }
    }
    if part.get("items").value.is_object() {
        let own = outer.get("items");
        if own.is_set() {
            alternative(&part.get("items"), &own, errors);
        } else {
            errors.push(own.required(&format!("because it is defined in {}", part.path_of("items"))));
        }
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        for inner in part.items(key) {
            alternative(&inner, outer, errors);
        }
    }
    if part.get("not").value.is_object() {
        alternative(&part.get("not"), outer, errors);
    }
}

/// A default must itself be valid.
fn default(schema: &Field, errors: &mut Vec<FieldError>) {
    let Some(value) = schema.value.get("default") else {
        return;
    };
    if value.is_null() && !flag(schema.value, "nullable") {
        errors.push(FieldError::invalid(
            schema.path_of("default"),
            Value::Null,
            "must be of the right type",
        ));
        return;
    }
    let mut filled = value.clone();
    super::defaults::fill(&mut filled, schema.value);
    let patterns = Patterns::new();
    errors.extend(check::value(
        &schema.path_of("default"),
        &filled,
        schema.value,
        &patterns,
    ));
}
