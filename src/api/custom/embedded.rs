//! Objects inside objects (`x-kubernetes-embedded-resource`): what names their kind, and their metadata.

use serde_json::Value;

use crate::kinds::metadata;
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, flag, get};

/// What is wrong with the objects inside a value, and with itself if its schema says that it is one.
pub fn check(value: &Field, schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(value, schema, &mut errors);
    errors
}

fn walk(at: &Field, schema: &Value, errors: &mut Vec<FieldError>) {
    match at.value {
        Value::Object(map) => {
            if flag(schema, "x-kubernetes-embedded-resource") {
                resource(at, errors);
            }
            let (members, more) = (get(schema, "properties"), get(schema, "additionalProperties"));
            for (name, held) in map {
                match members.get(name) {
                    Some(of) => walk(&Field::new(held, at.path_of(name)), of, errors),
                    None if more.is_object() => {
                        walk(&Field::new(held, format!("{}[{name}]", at.path)), more, errors);
                    }
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                let path = format!("{}[{place}]", at.path);
                walk(&Field::new(item, path), get(schema, "items"), errors);
            }
        }
        _ => {}
    }
}

fn resource(at: &Field, errors: &mut Vec<FieldError>) {
    let member = |name: &str| Field::new(at.value.get(name).unwrap_or(&Value::Null), at.path_of(name));
    for name in ["apiVersion", "kind"] {
        let field = member(name);
        match field.value {
            Value::Null => errors.push(field.required("")),
            Value::String(said) if said.is_empty() => errors.push(field.invalid("must not be empty")),
            Value::String(said) => errors.extend(names_a_kind(name, said).map(|why| field.invalid(why))),
            _ => errors.push(field.invalid("must be a string")),
        }
    }
    let meta = member("metadata");
    if meta.value.is_object() {
        errors.extend(metadata::embedded(&meta));
    }
}

/// Why a text cannot be an `apiVersion` or a `kind`.
fn names_a_kind(name: &str, said: &str) -> Option<String> {
    if name == "apiVersion" {
        let parts = said.split('/').count();
        return (parts > 2).then(|| format!("unexpected GroupVersion string: {said}"));
    }
    let wrong = names::is_dns1035_label(&said.to_lowercase());
    let why = wrong.join(",");
    (!wrong.is_empty()).then(|| format!("may have mixed case, but should otherwise match: {why}"))
}
