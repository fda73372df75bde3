//! What makes a schema structural (apiextensions `ValidateStructural`): every value has a type, and what says more
//! about a value says nothing about its structure.

use serde_json::{Value, json};

use super::parts::{inner, is_there, is_zero, junctors, properties, property};
use crate::cel::strings_pattern;
use crate::status::FieldError;
use crate::value::{Field, entries, flag};

const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
const EMBEDDED: &str = "x-kubernetes-embedded-resource";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";

/// What may stand only outside `allOf`, `anyOf`, `oneOf` and `not`, and what it must be inside.
const STRUCTURE: [(&str, &str); 13] = [
    ("type", "empty"),
    ("additionalProperties", "undefined"),
    ("default", "undefined"),
    ("title", "empty"),
    ("description", "empty"),
    ("nullable", "false"),
    (PRESERVE, "false"),
    (EMBEDDED, "false"),
    (INT_OR_STRING, "false"),
    ("x-kubernetes-list-map-keys", "empty"),
    ("x-kubernetes-list-type", "undefined"),
    ("x-kubernetes-map-type", "undefined"),
    ("x-kubernetes-validations", "empty"),
];

/// Where in a schema we are.
#[derive(Clone, Copy, PartialEq)]
enum Level {
    Root,
    Item,
    Field,
}

/// What is wrong with the structure of a whole schema.
pub fn check(schema: &Field, errors: &mut Vec<FieldError>) {
    structure(schema, Level::Root, errors);
}

fn structure(schema: &Field, level: Level, errors: &mut Vec<FieldError>) {
    if schema.get("type").text() == "array" && !schema.get("items").value.is_object() {
        errors.push(schema.get("items").required("must be specified"));
    }
    if let Some(items) = inner(schema, "items") {
        structure(&items, Level::Item, errors);
    }
    for (_, member) in properties(schema) {
        structure(&member, Level::Field, errors);
    }
    let more = schema.get("additionalProperties");
    if more.is_set() && level == Level::Root {
        errors.push(more.forbidden("must not be used at the root"));
    }
    if more.value.is_object() {
        structure(&more, Level::Field, errors);
    }
    int_or_string(schema, errors);
    more_about(schema, errors);
    typed(schema, level, errors);
    resource(schema, level, errors);
}

fn int_or_string(schema: &Field, errors: &mut Vec<FieldError>) {
    if !flag(schema.value, INT_OR_STRING) {
        return;
    }
    for key in [PRESERVE, EMBEDDED] {
        let other = schema.get(key);
        if other.flag() {
            errors.push(other.invalid("must be false if x-kubernetes-int-or-string is true"));
        }
    }
}

fn typed(schema: &Field, level: Level, errors: &mut Vec<FieldError>) {
    let kind = schema.get("type");
    let open = flag(schema.value, INT_OR_STRING) || flag(schema.value, PRESERVE);
    if flag(schema.value, EMBEDDED) && kind.text() != "object" {
        let why = "must be object if x-kubernetes-embedded-resource is true";
        errors.push(if kind.is_blank() {
            kind.required(why)
        } else {
            kind.invalid(why)
        });
    } else if kind.is_blank() && !open {
        errors.push(kind.required(match level {
            Level::Root => "must not be empty at the root",
            Level::Item => "must not be empty for specified array items",
            Level::Field => "must not be empty for specified object fields",
        }));
    }
    if level == Level::Root && !kind.is_blank() && kind.text() != "object" {
        errors.push(kind.invalid("must be object at the root"));
    }
}

/// What holds where an object with a kind of its own is described.
fn resource(schema: &Field, level: Level, errors: &mut Vec<FieldError>) {
    let embedded = flag(schema.value, EMBEDDED);
    let more = schema.get("additionalProperties");
    if embedded && more.is_set() {
        errors.push(more.forbidden("must not be used if x-kubernetes-embedded-resource is set"));
    }
    if embedded && !flag(schema.value, PRESERVE) && !is_there(schema, "properties") {
        errors.push(schema.get("properties").required(
            "must not be empty if x-kubernetes-embedded-resource is true without \
             x-kubernetes-preserve-unknown-fields",
        ));
    }
    if !embedded && level != Level::Root {
        return;
    }
    for (name, wanted) in [
        ("kind", "string"),
        ("apiVersion", "string"),
        ("metadata", "object"),
    ] {
        let member = property(schema, name);
        let kind = member.get("type");
        if member.is_set() && kind.text() != wanted {
            errors.push(kind.invalid(format!("must be {wanted}")));
        }
    }
    let metadata = property(schema, "metadata");
    if level == Level::Root && metadata.is_set() && says_more_than_names(&metadata) {
        errors.push(metadata.forbidden(
            "must not specify anything other than name and generateName, but metadata is implicitly specified",
        ));
    }
}

/// A resource's metadata is known; only its names can be narrowed.
fn says_more_than_names(metadata: &Field) -> bool {
    let keys = metadata.value.as_object().into_iter().flatten();
    let mut others = keys
        .filter(|(key, value)| !is_zero(value) && !["type", "default", "properties"].contains(&key.as_str()));
    let named = |name: &str| ["name", "generateName"].contains(&name);
    others.next().is_some() || entries(metadata.value, "properties").any(|(name, _)| !named(name))
}

/// Whether these are the two alternatives of a number or text, which may name types.
fn is_int_or_string(parts: &Value) -> bool {
    *parts == json!([{"type": "integer"}, {"type": "string"}])
}

/// What `allOf` and its like say about a value, and its pattern.
fn more_about(schema: &Field, errors: &mut Vec<FieldError>) {
    let excepted = is_int_or_string(schema.get("anyOf").value);
    let any = schema.items("anyOf").into_iter().filter(|_| !excepted);
    any.for_each(|part| nested(&part, false, errors));
    for (place, part) in schema.items("allOf").into_iter().enumerate() {
        let excepted = place == 0 && is_int_or_string(part.get("anyOf").value);
        nested(&part, excepted, errors);
    }
    let others = schema.items("oneOf").into_iter().chain(inner(schema, "not"));
    others.for_each(|part| nested(&part, false, errors));
    pattern(schema, errors);
}

fn pattern(schema: &Field, errors: &mut Vec<FieldError>) {
    let pattern = schema.get("pattern");
    if !pattern.is_blank()
        && let Err(why) = strings_pattern(pattern.text())
    {
        errors.push(pattern.invalid(format!("must be a valid regular expression, but isn't: {why}")));
    }
}

/// A schema inside `allOf` and its like; `excepted` says that its own `anyOf` may name types.
fn nested(part: &Field, excepted: bool, errors: &mut Vec<FieldError>) {
    let any = part.path_of("anyOf[");
    for below in junctors(part) {
        if !(excepted && below.path.starts_with(&any)) {
            nested(&below, false, errors);
        }
    }
    pattern(part, errors);
    let below = inner(part, "items")
        .into_iter()
        .chain(inner(part, "additionalProperties"));
    below.for_each(|below| nested(&below, false, errors));
    for (name, member) in properties(part) {
        nested(&member, false, errors);
        if name == "metadata" {
            errors.push(member.forbidden("must not be specified in a nested context"));
        }
    }
    for (key, wanted) in STRUCTURE {
        let field = part.get(key);
        let set = match key {
            // That nothing more is allowed is structure, too.
            "additionalProperties" => field.is_set(),
            _ => is_there(part, key),
        };
        if set {
            errors.push(field.forbidden(format!("must be {wanted} to be structural")));
        }
    }
}
