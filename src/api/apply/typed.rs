//! Objects seen through their schema, as server-side apply sees them: which
//! paths they have, how two differ, how they merge, what is left after removal.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde_json::{Map, Value};

use crate::fields::{FieldSet, Path, Step};
use crate::schema::{ApplyKind, Node, Scalar, Schema, Type};

type Keys = [(Cow<'static, str>, Option<Value>)];

/// What the schema says about a value: its type and how it merges.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    node: &'a Node,
    apply: &'a ApplyKind,
}

static FREE: Node = Node::Any;
static DEFAULT: ApplyKind = ApplyKind::Default;

/// How a value counts.
enum Shape<'a> {
    /// One piece.
    Leaf,
    Struct(&'a Type),
    Map(&'a Node),
    Keyed(&'a Node, &'a Keys),
    Set(&'a Node),
}

impl<'a> At<'a> {
    pub fn new(node: &'a Node) -> Self {
        Self {
            node,
            apply: &DEFAULT,
        }
    }

    fn shape(self) -> Shape<'a> {
        match (self.node, self.apply) {
            (_, ApplyKind::Atomic) | (Node::Any | Node::Scalar(_), _) => Shape::Leaf,
            (Node::Struct(of), _) => {
                let of = of.get();
                if of.atomic { Shape::Leaf } else { Shape::Struct(of) }
            }
            (Node::Map(inner), _) => Shape::Map(inner),
            (Node::List(item), ApplyKind::Keyed(keys)) => Shape::Keyed(item, keys),
            (Node::List(item), ApplyKind::Set) => Shape::Set(item),
            (Node::List(_), _) => Shape::Leaf,
        }
    }
}

impl<'a> Shape<'a> {
    /// What the schema says one step further down.
    fn step(&self, step: &Step) -> At<'a> {
        match (self, step) {
            (_, Step::Field(name)) => self.field(name),
            (Shape::Keyed(inner, _) | Shape::Set(inner), _) => At::new(inner),
            _ => At::new(&FREE),
        }
    }

    /// The same for a field of a struct or a key of a map.
    fn field(&self, name: &str) -> At<'a> {
        match self {
            Shape::Struct(of) => match of.field(name) {
                Some(field) => At {
                    node: &field.node,
                    apply: &field.merge.apply,
                },
                None => At::new(&FREE),
            },
            Shape::Map(inner) => At::new(inner),
            _ => At::new(&FREE),
        }
    }

    /// The children of a value of this shape; `None` when it has to count as one piece.
    fn children<'v>(&self, value: Option<&'v Value>) -> Option<Vec<(Step, &'v Value)>> {
        match (self, value) {
            (Shape::Leaf, _) => None,
            (_, None | Some(Value::Null)) => Some(Vec::new()),
            (Shape::Struct(_) | Shape::Map(_), Some(Value::Object(map))) => {
                Some(map.iter().map(|(key, value)| (Step::field(key), value)).collect())
            }
            (Shape::Keyed(item, keys), Some(Value::Array(items))) => items
                .iter()
                .map(|value| Some((key_of(value, item, keys).ok()?, value)))
                .collect(),
            (Shape::Set(_), Some(Value::Array(items))) => Some(
                items
                    .iter()
                    .map(|value| (Step::Value(value.clone()), value))
                    .collect(),
            ),
            _ => None,
        }
    }

    fn is_list(&self) -> bool {
        matches!(self, Shape::Keyed(..) | Shape::Set(_))
    }
}

/// The keys by which an item is told apart.
fn key_of(item: &Value, node: &Node, keys: &Keys) -> Result<Step, String> {
    let Value::Object(map) = item else {
        let what = if item.is_null() {
            "a null element"
        } else {
            "non-map elements"
        };
        return Err(format!("associative list with keys may not have {what}"));
    };
    let mut found = Vec::with_capacity(keys.len());
    for (name, default) in keys {
        let value = map
            .get(name.as_ref())
            .cloned()
            .or_else(|| default.clone())
            .or_else(|| zero_key(node, name));
        found.extend(value.map(|value| (name.clone().into_owned(), value)));
    }
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|(name, _)| format!("{name:?}")).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields [{}] \
             (and doesn't have default values for any key fields)",
            names.join(" ")
        ));
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Step::Key(found))
}

/// An absent key that is no pointer in Go is its zero value.
fn zero_key(node: &Node, name: &str) -> Option<Value> {
    let Node::Struct(of) = node else { return None };
    let field = of
        .get()
        .field(name)
        .filter(|field| field.always && !field.pointer)?;
    match field.node {
        Node::Scalar(Scalar::String) => Some("".into()),
        Node::Scalar(Scalar::Int32 | Scalar::Int64) => Some(0.into()),
        _ => None,
    }
}

fn root(schema: &Schema) -> Node {
    Node::Struct(schema.root.clone())
}

/// The paths that an object has, `to_field_set` of an applied configuration.
pub(super) fn paths_of(value: &Value, schema: &Schema) -> FieldSet {
    let node = root(schema);
    paths_below(value, At::new(&node)).1
}

/// Whether the value itself counts, and what counts below it.
fn paths_below(value: &Value, at: At<'_>) -> (bool, FieldSet) {
    let shape = at.shape();
    let Some(children) = shape.children(Some(value)) else {
        return (true, FieldSet::default());
    };
    let mut set = FieldSet::default();
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<&Step> = if shape.is_list() {
        children
            .iter()
            .filter(|(step, _)| !seen.insert(step))
            .map(|(step, _)| step)
            .collect()
    } else {
        BTreeSet::new()
    };
    for (step, child) in &children {
        if twice.contains(step) {
            set.insert_branch(step.clone(), true, FieldSet::default());
            continue;
        }
        let (member, below) = paths_below(child, shape.step(step));
        let empty = child.is_null() || child.as_object().is_some_and(Map::is_empty);
        let free = !matches!(shape, Shape::Struct(_));
        set.insert_branch(step.clone(), member || empty || free, below);
    }
    (false, set)
}

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

type Children<'v> = [(Step, &'v Value)];

/// The items of two sides under their steps; a step can have several in a list with duplicates.
fn side_by_side<'c, 'v>(
    l: &'c Children<'v>,
    r: &'c Children<'v>,
) -> BTreeMap<&'c Step, (Vec<&'v Value>, Vec<&'v Value>)> {
    let mut pairs: BTreeMap<&Step, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    l.iter()
        .for_each(|(step, value)| pairs.entry(step).or_default().0.push(value));
    r.iter()
        .for_each(|(step, value)| pairs.entry(step).or_default().1.push(value));
    pairs
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

/// What is wrong with an applied configuration, as `.path: text`.
pub(super) fn problems(value: &Value, schema: &Schema) -> Vec<String> {
    let node = root(schema);
    let mut out = Vec::new();
    check(value, At::new(&node), &mut Vec::new(), &mut out);
    out
}

/// The lists, maps and structs in an object that count as one piece each, by their paths.
pub(super) fn atoms(value: &Value, schema: &Schema) -> Vec<Path> {
    let (node, mut out) = (root(schema), Vec::new());
    atoms_below(value, At::new(&node), &mut Path::default(), &mut out);
    out
}

fn atoms_below(value: &Value, at: At<'_>, path: &mut Path, out: &mut Vec<Path>) {
    let shape = at.shape();
    let composite = matches!(at.node, Node::Struct(_) | Node::Map(_) | Node::List(_));
    if matches!(shape, Shape::Leaf) && composite && !value.is_null() {
        out.push(path.clone());
    }
    for (step, child) in shape.children(Some(value)).into_iter().flatten() {
        let below = shape.step(&step);
        path.push(step);
        atoms_below(child, below, path, out);
        path.pop();
    }
}

fn check(value: &Value, at: At<'_>, path: &mut Path, out: &mut Vec<String>) {
    let wrong = |path: &Path, out: &mut Vec<String>, text: String| {
        out.push(format!("{}: {text}", crate::fields::path_text(path)));
    };
    match (at.node, value) {
        (_, Value::Null) | (Node::Any, _) => {}
        (Node::Struct(of), Value::Object(map)) => {
            let of = of.get();
            for (key, value) in map {
                path.push(Step::field(key));
                match of.field(key) {
                    Some(field) => check(
                        value,
                        At {
                            node: &field.node,
                            apply: &field.merge.apply,
                        },
                        path,
                        out,
                    ),
                    None if of.preserve_unknown => {}
                    None => wrong(path, out, "field not declared in schema".to_owned()),
                }
                path.pop();
            }
        }
        (Node::Map(inner), Value::Object(map)) => {
            for (key, value) in map {
                path.push(Step::field(key));
                check(value, At::new(inner), path, out);
                path.pop();
            }
        }
        (Node::List(item), Value::Array(items)) => check_items(items, item, at.shape(), path, out),
        (Node::Struct(_) | Node::Map(_), other) => wrong(path, out, format!("expected map, got {other}")),
        (Node::List(_), other) => wrong(path, out, format!("expected list, got {other}")),
        (Node::Scalar(scalar), value) => {
            if let Some(text) = wrong_scalar(*scalar, value) {
                wrong(path, out, text);
            }
        }
    }
}

fn check_items(items: &[Value], item: &Node, shape: Shape<'_>, path: &mut Path, out: &mut Vec<String>) {
    let mut seen: BTreeSet<Step> = BTreeSet::new();
    for (place, value) in items.iter().enumerate() {
        let step = match &shape {
            Shape::Keyed(node, keys) => key_of(value, node, keys),
            Shape::Set(_) if value.is_object() || value.is_array() || value.is_null() => {
                Err("associative list without keys has an element that is no scalar".to_owned())
            }
            Shape::Set(_) => Ok(Step::Value(value.clone())),
            _ => Ok(Step::Index(i64::try_from(place).unwrap_or(i64::MAX))),
        };
        let at = crate::fields::path_text(path);
        match step {
            Err(text) => {
                out.push(format!("{at}: element {place}: {text}"));
                return;
            }
            Ok(step) => {
                if !seen.insert(step.clone()) {
                    out.push(format!("{at}: duplicate entries for key {step}"));
                }
                path.push(step);
                check(value, At::new(item), path, out);
                path.pop();
            }
        }
    }
}

fn wrong_scalar(scalar: Scalar, value: &Value) -> Option<String> {
    let go_type = match value {
        Value::String(_) => "string",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::Array(_) => "[]interface {}",
        _ => "map[string]interface {}",
    };
    let plain = !value.is_array() && !value.is_object();
    match scalar {
        Scalar::Int32 | Scalar::Int64 | Scalar::Double if !value.is_number() => {
            Some(format!("expected numeric (int or float), got {go_type}"))
        }
        Scalar::Bool if !value.is_boolean() => Some(format!("expected boolean, got {value}")),
        Scalar::Quantity | Scalar::IntOrString if !plain => Some(format!("expected any scalar, got {value}")),
        Scalar::String | Scalar::Bytes | Scalar::Time | Scalar::MicroTime | Scalar::Duration
            if !value.is_string() =>
        {
            Some(format!("expected string, got {value}"))
        }
        _ => None,
    }
}
