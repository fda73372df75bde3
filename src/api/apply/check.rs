//! Whether a configuration fits its schema, and what of it counts as one piece.

use std::collections::BTreeSet;

use serde_json::Value;

use super::typed::{At, Shape, key_of, root};
use crate::fields::{Path, Step};
use crate::schema::{Node, Scalar, Schema};

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
