//! How two objects become one, and what is left of one when paths are taken out.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::typed::{At, Children, Shape, root, side_by_side};
use crate::fields::{FieldSet, Step};
use crate::schema::Schema;

/// `config` merged into `live`.
pub(super) fn merge(live: &Value, config: &Value, schema: &Schema) -> Value {
    let node = root(schema);
    merge_at(Some(live), Some(config), At::new(&node)).unwrap_or_default()
}

fn merge_at(live: Option<&Value>, config: Option<&Value>, at: At<'_>) -> Option<Value> {
    let shape = at.shape();
    let children = shape.children(live).zip(shape.children(config));
    match children {
        Some((l, r)) if !(l.is_empty() && r.is_empty()) => {
            if shape.is_list() {
                Some(Value::Array(merge_items(&shape, &l, &r)))
            } else {
                Some(Value::Object(merge_fields(&shape, &l, &r)))
            }
        }
        _ => config.or(live).cloned(),
    }
}

fn merge_fields(shape: &Shape<'_>, l: &Children<'_>, r: &Children<'_>) -> Map<String, Value> {
    let mut out = Map::new();
    for (step, (live, config)) in side_by_side(l, r) {
        let merged = merge_at(live.first().copied(), config.first().copied(), shape.step(step));
        if let (Step::Field(name), Some(value)) = (step, merged) {
            out.insert(name.clone(), value);
        }
    }
    out
}

/// Merges two lists whose items have keys: the order of `r` wins among its items, items that only
/// `l` has keep their places between them.
fn merge_items(shape: &Shape<'_>, l: &Children<'_>, r: &Children<'_>) -> Vec<Value> {
    let pairs = side_by_side(l, r);
    let in_l = |step: &Step| pairs.get(step).is_some_and(|(live, _)| !live.is_empty());
    let in_r = |step: &Step| pairs.get(step).is_some_and(|(_, config)| !config.is_empty());
    let mut shared = r.iter().map(|(step, _)| step).filter(|step| in_l(step));
    let mut next_shared = shared.next();
    let mut merged: BTreeSet<&Step> = BTreeSet::new();
    let mut out = Vec::with_capacity(l.len() + r.len());
    let mut take = |step: &Step, config: Option<&Value>, live: Option<&Value>| {
        out.extend(merge_at(live, config, shape.step(step)));
    };
    // An item that the live list has twice is not merged with, it is replaced.
    let live_of = |step: &Step| match pairs.get(step).map(|(live, _)| live.as_slice()) {
        Some([one]) => Some(*one),
        _ => None,
    };
    let (mut i, mut j) = (0, 0);
    while i < l.len() || j < r.len() {
        if let (Some((left, _)), Some((right, config))) = (l.get(i), r.get(j)) {
            if left == right {
                take(left, Some(config), live_of(left));
                merged.insert(left);
                i += 1;
                j += 1;
                next_shared = shared.next();
                continue;
            }
            if in_r(left) && next_shared.is_some_and(|next| next != left) {
                // Shared, but not the one whose turn it is.
                i += 1;
                continue;
            }
        }
        if let Some((left, live)) = l.get(i) {
            if !in_r(left) {
                take(left, None, Some(live));
                i += 1;
                continue;
            }
            if merged.contains(left) {
                i += 1;
            }
        }
        if let Some((right, config)) = r.get(j) {
            take(right, Some(config), live_of(right));
            merged.insert(right);
            j += 1;
            if next_shared == Some(right) {
                next_shared = shared.next();
            }
        }
    }
    out
}

/// The object without the paths of `gone`.
pub(super) fn remove(value: &Value, gone: &FieldSet, schema: &Schema) -> Value {
    let node = root(schema);
    remove_at(value, gone, At::new(&node)).unwrap_or_else(|| Value::Object(Map::new()))
}

fn remove_at(value: &Value, gone: &FieldSet, at: At<'_>) -> Option<Value> {
    let shape = at.shape();
    let Some(children) = shape.children(Some(value)) else {
        return Some(value.clone());
    };
    let left = children
        .iter()
        .filter(|(step, _)| !gone.has_step(step))
        .filter_map(|(step, child)| {
            match gone.below(step) {
                Some(gone) => remove_at(child, gone, shape.step(step)),
                None => Some((*child).clone()),
            }
            .map(|child| (step, child))
        });
    if shape.is_list() {
        let items: Vec<Value> = left.map(|(_, child)| child).collect();
        return (!items.is_empty()).then_some(Value::Array(items));
    }
    let mut map = Map::new();
    for (step, child) in left {
        if let Step::Field(name) = step {
            map.insert(name.clone(), child);
        }
    }
    (!map.is_empty()).then_some(Value::Object(map))
}
