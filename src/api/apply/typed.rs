//! Objects seen through their schema, as server-side apply sees them: how each value counts, and which paths an object
//! has.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::fields::{FieldSet, Step};
use crate::schema::{ApplyKind, Node, Scalar, Schema, Type};

/// The keys by which items are told apart, and what an item has that omits one.
pub(super) type Keys = [(Cow<'static, str>, Option<Value>)];

/// What the schema says about a value: its type and how it merges.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub node: &'a Node,
    pub apply: &'a ApplyKind,
}

static FREE: Node = Node::Any;
static DEFAULT: ApplyKind = ApplyKind::Default;

/// How a value counts.
pub(super) enum Shape<'a> {
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

    pub fn shape(self) -> Shape<'a> {
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
    pub fn step(&self, step: &Step) -> At<'a> {
        match (self, step) {
            (_, Step::Field(name)) => self.field(name),
            (Shape::Keyed(inner, _) | Shape::Set(inner), _) => At::new(inner),
            _ => At::new(&FREE),
        }
    }

    /// The same for a field of a struct or a key of a map.
    pub fn field(&self, name: &str) -> At<'a> {
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
    pub fn children<'v>(&self, value: Option<&'v Value>) -> Option<Vec<(Step, &'v Value)>> {
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

    /// Whether it is a list whose items are told apart.
    pub fn is_list(&self) -> bool {
        matches!(self, Shape::Keyed(..) | Shape::Set(_))
    }
}

/// The keys by which an item is told apart.
pub(super) fn key_of(item: &Value, node: &Node, keys: &Keys) -> Result<Step, String> {
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

/// The node of a whole object.
pub(super) fn root(schema: &Schema) -> Node {
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

/// The children of a value, each under its step.
pub(super) type Children<'v> = [(Step, &'v Value)];

/// The items of two sides under their steps; a step can have several in a list with duplicates.
pub(super) fn side_by_side<'c, 'v>(
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
