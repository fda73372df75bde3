//! Defaults of a structural schema.

use serde_json::Value;

use crate::value::{flag, get};

/// Fills in the defaults of an object; its metadata has none.
pub fn fill_root(object: &mut Value, schema: &Value) {
    let metadata = object.as_object_mut().and_then(|map| map.remove("metadata"));
    fill(object, schema);
    if let (Some(map), Some(metadata)) = (object.as_object_mut(), metadata) {
        map.insert("metadata".to_owned(), metadata);
    }
}

/// Fills in the defaults of a value. Null where null may not be counts as absent, and goes where there is no
/// default.
pub fn fill(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(map) => {
            if let Value::Object(properties) = get(schema, "properties") {
                for (name, property) in properties {
                    let absent = match map.get(name) {
                        None => true,
                        Some(Value::Null) => !flag(property, "nullable"),
                        Some(_) => false,
                    };
                    match property.get("default") {
                        Some(default) if absent => drop(map.insert(name.clone(), default.clone())),
                        None if absent => drop(map.remove(name)),
                        _ => {}
                    }
                    if let Some(held) = map.get_mut(name) {
                        fill(held, property);
                    }
                }
            }
            let more = get(schema, "additionalProperties");
            if more.is_object() {
                fill_map(map, more);
            }
        }
        Value::Array(items) => {
            let of = get(schema, "items");
            items.iter_mut().for_each(|item| fill(item, of));
        }
        _ => {}
    }
}

fn fill_map(map: &mut serde_json::Map<String, Value>, schema: &Value) {
    if !flag(schema, "nullable") {
        match schema.get("default") {
            Some(default) => {
                let nulls = map.values_mut().filter(|value| value.is_null());
                nulls.for_each(|value| *value = default.clone());
            }
            None => map.retain(|_, value| !value.is_null()),
        }
    }
    map.values_mut().for_each(|value| fill(value, schema));
}
