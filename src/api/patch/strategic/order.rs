//! In which order the items of a merged list stand.

use serde_json::{Map, Value};

use super::list::{is_same, merge_list};
use super::place::Place;
use super::{BAD_ORDER, DELETE_FROM, DIRECTIVE, SET_ORDER, delete_from};
use crate::status::Status;

/// `$setElementOrder/…`: merges those lists and brings them into the order asked for.
pub(super) fn set_orders(
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

/// The patch's items must be named by the order, in that order.
fn check_order(items: &[Value], order: &[Value], key: &str) -> Result<(), Status> {
    let mut rest = order.iter();
    for item in items.iter().filter(|item| item.get(DIRECTIVE).is_none()) {
        if !rest.by_ref().any(|o| is_same(item, o, key)) {
            let text = |list: &[Value]| Value::Array(list.to_vec()).to_string();
            return Err(Status::bad_request(format!(
                "The order in patch list:\n{}\n doesn't match $setElementOrder list:\n{}\n",
                text(items),
                text(order)
            )));
        }
    }
    Ok(())
}

/// Items that `order` names stand in its order; the others keep their place among them as far as
/// the list `before` the patch tells it.
pub(super) fn in_order(merged: Vec<Value>, order: &[Value], before: &[Value], key: &str) -> Vec<Value> {
    let place_in = |list: &[Value], item: &Value| list.iter().position(|other| is_same(item, other, key));
    let (mut named, others): (Vec<Value>, Vec<Value>) = merged
        .into_iter()
        .partition(|item| place_in(order, item).is_some());
    named.sort_by_key(|item| place_in(order, item));
    let mut out = Vec::with_capacity(named.len() + others.len());
    let (mut named, mut others) = (named.into_iter().peekable(), others.into_iter().peekable());
    while let (Some(right), Some(left)) = (named.peek(), others.peek()) {
        let left_first = match (place_in(before, left), place_in(before, right)) {
            (Some(l), Some(r)) => l < r,
            _ => false,
        };
        out.extend(if left_first { others.next() } else { named.next() });
    }
    out.extend(named);
    out.extend(others);
    out
}
