//! Strategic merge patch: a merge patch that knows which lists merge by key,
//! with Kubernetes' directives (`$patch`, `$retainKeys`, `$setElementOrder/…`,
//! `$deleteFromPrimitiveList/…`).

use serde_json::{Map, Value};

use crate::schema::{Node, Schema};
use crate::status::Status;

mod list;
mod order;
mod place;

use list::merge_in_order;
use order::set_orders;
use place::Place;

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
const SET_ORDER: &str = "$setElementOrder/";

const BAD_DOCUMENT: &str = "invalid JSON document";
const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";
const BAD_ORDER: &str = "invalid patch format of setElementOrder list";

/// Applies a strategic merge patch.
///
/// # Errors
/// 400 for a patch that breaks the format's rules, 422 for list items without their merge key.
pub fn strategic_merge(object: Value, patch: Value, schema: &Schema) -> Result<Value, Status> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(Status::bad_request(BAD_DOCUMENT));
    };
    merge_map(object, patch, Place::of(&Node::Struct(schema.root.clone()))).map(Value::Object)
}

fn merge_map(
    mut original: Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place<'_>,
) -> Result<Map<String, Value>, Status> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => return Ok(without_directives_map(patch)),
            Some("delete") => return Ok(Map::new()),
            Some("merge") => {}
            _ => {
                let map = Value::Object(patch);
                return Err(Status::bad_request(format!(
                    "unknown patch type: {directive} in map: {map}"
                )));
            }
        }
    }
    retain_keys(&mut original, &mut patch)?;
    set_orders(&mut original, &mut patch, place)?;
    for (key, change) in patch {
        if let Some(list) = key.strip_prefix(DELETE_FROM) {
            delete_from(&mut original, list, &change)?;
            continue;
        }
        if change.is_null() {
            original.remove(&key);
            continue;
        }
        let merged = match original.remove(&key) {
            None => without_directives(change),
            Some(before) => merge_value(before, change, place.field(&key))?,
        };
        original.insert(key, merged);
    }
    Ok(original)
}

fn merge_value(before: Value, change: Value, place: Place<'_>) -> Result<Value, Status> {
    match (before, change) {
        (Value::Object(before), Value::Object(change)) if !place.replaces_maps() => {
            merge_map(before, change, place).map(Value::Object)
        }
        (Value::Array(before), Value::Array(change)) if place.merges_lists() => {
            merge_in_order(before, change, place).map(Value::Array)
        }
        (_, change) => Ok(without_directives(change)),
    }
}

/// `$retainKeys`: what it does not name goes; what the patch sets must be named.
fn retain_keys(original: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), Status> {
    let Some(list) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || Status::bad_request(BAD_RETAIN_KEYS);
    let retained = list.as_array().ok_or_else(bad)?;
    let named = |key: &str| retained.iter().any(|k| k.as_str() == Some(key));
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !key.starts_with('$') && !named(key))
    {
        return Err(bad());
    }
    original.retain(|key, _| named(key));
    Ok(())
}

fn delete_from(original: &mut Map<String, Value>, list: &str, gone: &Value) -> Result<(), Status> {
    let gone = gone
        .as_array()
        .ok_or_else(|| Status::bad_request(BAD_PRIMITIVE_LIST))?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

fn directive_of(item: &Value) -> &str {
    item.get(DIRECTIVE).and_then(Value::as_str).unwrap_or_default()
}

/// A patch's value where the object had none: nulls and directives mean nothing there.
fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives_map(map)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .filter(|item| directive_of(item) != "delete")
                .map(without_directives)
                // An item that held nothing but a directive is none.
                .collect(),
        ),
        other => other,
    }
}

fn without_directives_map(map: Map<String, Value>) -> Map<String, Value> {
    let meaning_nothing = |key: &str, value: &Value| {
        value.is_null()
            || key == DIRECTIVE
            || key == RETAIN_KEYS
            || key.starts_with(SET_ORDER)
            || key.starts_with(DELETE_FROM)
    };
    map.into_iter()
        .filter(|(key, value)| !meaning_nothing(key, value))
        .map(|(key, value)| (key, without_directives(value)))
        .collect()
}

#[cfg(test)]
mod tests;
