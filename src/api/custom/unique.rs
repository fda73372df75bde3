//! Lists whose items must differ: sets have each item once, maps each combination of keys.

use std::collections::HashSet;

use serde_json::Value;

use crate::status::FieldError;
use crate::value::{get, list, text};

/// The items of such lists that repeat others.
pub fn check(path: &str, value: &Value, schema: &Value, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(map) => {
            let (members, more) = (get(schema, "properties"), get(schema, "additionalProperties"));
            for (name, held) in map {
                let dot = if path.is_empty() { "" } else { "." };
                match members.get(name) {
                    Some(of) => check(&format!("{path}{dot}{name}"), held, of, errors),
                    None if more.is_object() => check(&format!("{path}[{name}]"), held, more, errors),
                    None => {}
                }
            }
        }
        Value::Array(items) => {
            repeated(path, items, schema, errors);
            let of = get(schema, "items");
            for (place, item) in items.iter().enumerate() {
                check(&format!("{path}[{place}]"), item, of, errors);
            }
        }
        _ => {}
    }
}

fn repeated(path: &str, items: &[Value], schema: &Value, errors: &mut Vec<FieldError>) {
    let keys = list(schema, "x-kubernetes-list-map-keys");
    let key_of = |item: &Value| -> Value {
        let pairs = keys
            .iter()
            .filter_map(Value::as_str)
            .map(|key| (key.to_owned(), item.get(key).cloned().unwrap_or_default()));
        Value::Object(pairs.collect())
    };
    let keyed: Vec<Value> = match text(schema, "x-kubernetes-list-type") {
        "set" => items.to_vec(),
        "map" => items.iter().map(key_of).collect(),
        _ => return,
    };
    let mut seen = HashSet::new();
    for (place, key) in keyed.iter().enumerate() {
        if !seen.insert(key.to_string()) {
            errors.push(FieldError::duplicate(format!("{path}[{place}]"), key.clone()));
        }
    }
}
