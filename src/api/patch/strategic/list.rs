//! Lists that merge: by the key of their items, or as a set.

use serde_json::Value;

use super::order::in_order;
use super::place::Place;
use super::{DIRECTIVE, directive_of, merge_value, without_directives};
use crate::patch::does_not_fit;
use crate::status::Status;

/// Merges a list for which the patch names no order: its own items' order counts then, so that new
/// items stand before those of the object that the patch does not mention.
pub(super) fn merge_in_order(
    original: Vec<Value>,
    patch: Vec<Value>,
    place: Place<'_>,
) -> Result<Vec<Value>, Status> {
    let order: Vec<Value> = patch
        .iter()
        .filter(|item| item.get(DIRECTIVE).is_none())
        .cloned()
        .collect();
    let before = original.clone();
    let merged = merge_list(original, patch, place)?;
    Ok(in_order(merged, &order, &before, place.key()))
}

pub(super) fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    place: Place<'_>,
) -> Result<Vec<Value>, Status> {
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

pub(super) fn is_same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() {
        a == b
    } else {
        a.get(key).is_some() && a.get(key) == b.get(key)
    }
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
