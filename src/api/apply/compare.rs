//! How two objects differ, path by path.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::typed::{At, Shape, root, side_by_side};
use crate::fields::{FieldSet, Step};
use crate::schema::Schema;

/// How two objects differ.
#[derive(Default, Debug)]
pub(super) struct Difference {
    /// Paths that have a new value, or a value at all.
    pub changed: FieldSet,
    /// Paths that are gone.
    pub removed: FieldSet,
}

/// What became of a value itself, apart from what became of its parts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Changed,
    Removed,
}

/// What became of a value, and how it differs below itself.
type Found = (Option<Change>, Difference);

impl Difference {
    /// Without what a write cannot change.
    pub fn without(self, reset: &FieldSet) -> Self {
        if reset.is_empty() {
            return self;
        }
        Self {
            changed: self.changed.without(reset),
            removed: self.removed.without(reset),
        }
    }

    /// Takes in what was found one step further down.
    fn take_in(&mut self, step: &dyn Fn() -> Step, (change, below): Found) {
        let sets = [
            (&mut self.changed, Change::Changed, below.changed),
            (&mut self.removed, Change::Removed, below.removed),
        ];
        for (set, kind, below) in sets {
            let member = change == Some(kind);
            if member || !below.is_empty() {
                set.insert_branch(step(), member, below);
            }
        }
    }
}

/// What changed from `before` to `after`.
pub(super) fn compare(before: &Value, after: &Value, schema: &Schema) -> Difference {
    let node = root(schema);
    compare_at(Some(before), Some(after), At::new(&node)).1
}

fn compare_at(before: Option<&Value>, after: Option<&Value>, at: At<'_>) -> Found {
    if before == after {
        return Found::default();
    }
    let shape = at.shape();
    // One piece; empty containers too, so that null and empty stay apart.
    let below = match shape {
        Shape::Struct(_) | Shape::Map(_) => compare_members(&shape, before, after),
        _ => compare_items(&shape, before, after),
    };
    let change = match (before, after) {
        (_, None) => Some(Change::Removed),
        (None, _) => Some(Change::Changed),
        _ => below.is_none().then_some(Change::Changed),
    };
    (change, below.unwrap_or_default())
}

/// The members of an object, none of null or nothing; `None` for what has to count as one piece.
fn members(value: Option<&Value>) -> Option<&Map<String, Value>> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    match value {
        None | Some(Value::Null) => Some(&NONE),
        Some(value) => value.as_object(),
    }
}

fn compare_members(shape: &Shape<'_>, before: Option<&Value>, after: Option<&Value>) -> Option<Difference> {
    let (l, r) = (members(before)?, members(after)?);
    if l.is_empty() && r.is_empty() {
        return None;
    }
    let mut out = Difference::default();
    let added = r.keys().filter(|name| !l.contains_key(*name));
    for name in l.keys().chain(added) {
        let found = compare_at(l.get(name), r.get(name), shape.field(name));
        out.take_in(&|| Step::field(name), found);
    }
    Some(out)
}

fn compare_items(shape: &Shape<'_>, before: Option<&Value>, after: Option<&Value>) -> Option<Difference> {
    let (l, r) = shape.children(before).zip(shape.children(after))?;
    if l.is_empty() && r.is_empty() {
        return None;
    }
    let mut out = Difference::default();
    let whole = |change| (Some(change), Difference::default());
    for (step, (before, after)) in side_by_side(&l, &r) {
        let at = shape.step(step);
        let again = || step.clone();
        match (before.as_slice(), after.as_slice()) {
            ([] | [_], [] | [_]) => {
                let found = compare_at(before.first().copied(), after.first().copied(), at);
                out.take_in(&again, found);
            }
            // Duplicates count as one piece.
            ([_, _, ..], [_, _, ..]) if before == after => {}
            ([_, _, ..], [_, _, ..]) => out.take_in(&again, whole(Change::Changed)),
            ([_, _, ..], after) => {
                let one = after.first().copied();
                out.take_in(&again, compare_at(None, one, at));
                out.take_in(&again, whole(Change::Removed));
            }
            (before, _) => {
                let one = before.first().copied();
                out.take_in(&again, compare_at(one, None, at));
                out.take_in(&again, whole(Change::Changed));
            }
        }
    }
    Some(out)
}
