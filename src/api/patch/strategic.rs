//! Strategic merge patch: a merge patch that knows which lists merge by key,
//! with Kubernetes' directives (`$patch`, `$retainKeys`, `$setElementOrder/…`,
//! `$deleteFromPrimitiveList/…`).

use serde_json::{Map, Value};

use super::does_not_fit;
use crate::schema::{Node, Schema};
use crate::status::Status;

mod directives;
mod order;
mod place;

use directives::{
    DELETE_FROM, DIRECTIVE, SET_ORDER, delete_from, directive_of, retain_keys, without_directives,
    without_directives_map,
};
use order::{check_order, in_order, is_same};
use place::Place;

const BAD_DOCUMENT: &str = "invalid JSON document";
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

/// `$setElementOrder/…`: merges those lists and brings them into the order asked for.
fn set_orders(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    place: Place<'_>,
) -> Result<(), Status> {
    let directives: Vec<String> = patch
        .keys()
        .filter(|key| key.starts_with(SET_ORDER))
        .cloned()
        .collect();
    for directive in directives {
        let Some(Value::Array(order)) = patch.remove(&directive) else {
            return Err(Status::bad_request(BAD_ORDER));
        };
        let field = directive.strip_prefix(SET_ORDER).unwrap_or_default();
        let place = place.field(field);
        let change = match patch.remove(field) {
            Some(Value::Array(items)) => Some(items),
            Some(other) => {
                // Replaced by something that is no list, or removed: order means nothing then.
                patch.insert(field.to_owned(), other);
                continue;
            }
            None => None,
        };
        if let Some(gone) = patch.remove(&format!("{DELETE_FROM}{field}")) {
            delete_from(original, field, &gone)?;
        }
        if let Some(items) = &change {
            check_order(items, &order, place.key())?;
        }
        let before = match original.get(field) {
            Some(Value::Array(items)) => items.clone(),
            _ if change.is_none() => continue,
            _ => Vec::new(),
        };
        let merged = merge_list(before.clone(), change.unwrap_or_default(), place)?;
        original.insert(
            field.to_owned(),
            Value::Array(in_order(merged, &order, &before, place.key())),
        );
    }
    Ok(())
}

/// Merges a list for which the patch names no order: its own items' order counts then, so that new
/// items stand before those of the object that the patch does not mention.
fn merge_in_order(original: Vec<Value>, patch: Vec<Value>, place: Place<'_>) -> Result<Vec<Value>, Status> {
    let order: Vec<Value> = patch
        .iter()
        .filter(|item| item.get(DIRECTIVE).is_none())
        .cloned()
        .collect();
    let before = original.clone();
    let merged = merge_list(original, patch, place)?;
    Ok(in_order(merged, &order, &before, place.key()))
}

fn merge_list(original: Vec<Value>, patch: Vec<Value>, place: Place<'_>) -> Result<Vec<Value>, Status> {
    let all_maps = original.iter().chain(&patch).all(Value::is_object);
    if !all_maps || place.key().is_empty() {
        return Ok(merge_scalars(original, patch));
    }
    let key = place.key();
    let (directives, plain): (Vec<Value>, Vec<Value>) =
        patch.into_iter().partition(|item| item.get(DIRECTIVE).is_some());
    if directives.iter().any(|item| directive_of(item) == "replace") {
        return Ok(plain.into_iter().map(without_directives).collect());
    }
    let mut merged = original;
    for item in directives {
        match directive_of(&item) {
            "delete" => {
                keyed(&item, key)?;
                merged.retain(|other| !is_same(&item, other, key));
            }
            // An item's own `$patch: merge` is what happens anyway.
            "merge" => merge_item(&mut merged, item, place)?,
            other => {
                return Err(Status::bad_request(format!(
                    "unknown patch type: {other} in map: {item}"
                )));
            }
        }
    }
    for item in plain {
        merge_item(&mut merged, item, place)?;
    }
    Ok(merged)
}

fn keyed(item: &Value, key: &str) -> Result<(), Status> {
    if item.get(key).is_some_and(|value| !value.is_null()) {
        return Ok(());
    }
    Err(does_not_fit(format!(
        "map: {item} does not contain declared merge key: {key}"
    )))
}

fn merge_item(merged: &mut Vec<Value>, item: Value, place: Place<'_>) -> Result<(), Status> {
    let key = place.key();
    keyed(&item, key)?;
    match merged.iter_mut().find(|other| is_same(&item, other, key)) {
        Some(found) => {
            let before = std::mem::take(found);
            *found = merge_value(before, item, place.item())?;
        }
        None => merged.push(without_directives(item)),
    }
    Ok(())
}

fn merge_scalars(original: Vec<Value>, patch: Vec<Value>) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::with_capacity(original.len() + patch.len());
    for item in original.into_iter().chain(patch) {
        if !merged.contains(&item) {
            merged.push(item);
        }
    }
    merged
}

#[cfg(test)]
mod tests;
