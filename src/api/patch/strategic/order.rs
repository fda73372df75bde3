//! In which order the items of a merged list stand.

use serde_json::Value;

use super::directives::DIRECTIVE;
use crate::status::Status;

pub(super) fn is_same(a: &Value, b: &Value, key: &str) -> bool {
    if key.is_empty() {
        a == b
    } else {
        a.get(key).is_some() && a.get(key) == b.get(key)
    }
}

/// The patch's items must be named by the order, in that order.
pub(super) fn check_order(items: &[Value], order: &[Value], key: &str) -> Result<(), Status> {
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
