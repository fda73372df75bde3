//! What can be known of an expression before it runs: free names, functions that do not exist, fields that the
//! schema does not have.

use serde_json::Value;

use super::Error;
use super::expr::{Expr, How, Literal, Node};
use super::functions;
use super::val::{member, unescape};

/// The name of a type, as an expression may mention it.
pub fn type_word(name: &str) -> Option<&'static str> {
    [
        "bool",
        "int",
        "uint",
        "double",
        "string",
        "bytes",
        "list",
        "map",
        "null_type",
        "type",
    ]
    .into_iter()
    .find(|word| *word == name)
}

/// Every name is a variable in scope, every function exists.
pub fn names(expr: &Expr, known: &[&str]) -> Result<(), Error> {
    let undeclared = |name: &str| {
        Error::new(
            expr.at,
            format!("undeclared reference to '{name}' (in container '')"),
        )
    };
    match &expr.node {
        Node::Name(name) if !known.contains(&name.as_str()) && type_word(name).is_none() => {
            return Err(undeclared(name));
        }
        Node::Call { on, name, args } if !functions::exists(name, on.is_some(), args.len()) => {
            return Err(undeclared(name));
        }
        Node::Each(each) => {
            names(&each.range, known)?;
            let mut inner = known.to_vec();
            inner.extend([each.first.as_str(), each.second.as_str()]);
            for part in each.filter.iter().chain([&each.body]) {
                names(part, &inner)?;
            }
            return Ok(());
        }
        Node::Bind { name, value, body }
        | Node::OptMap {
            name, value, body, ..
        } => {
            names(value, known)?;
            let mut inner = known.to_vec();
            inner.push(name);
            return names(body, &inner);
        }
        _ => {}
    }
    expr.children()
        .into_iter()
        .try_for_each(|child| names(child, known))
}

/// Whether an expression names that variable.
pub fn uses(expr: &Expr, variable: &str) -> bool {
    matches!(&expr.node, Node::Name(name) if name == variable)
        || expr.children().into_iter().any(|child| uses(child, variable))
}

/// Whether its value can only be something else than true or false.
pub fn is_no_condition(expr: &Expr) -> bool {
    match &expr.node {
        Node::Literal(literal) => !matches!(literal, Literal::Bool(_)),
        Node::List(_) | Node::Map(_) => true,
        Node::Each(each) => matches!(each.how, How::Map | How::Filter | How::TransformMap),
        Node::Call { on: None, name, .. } => {
            matches!(
                name.as_str(),
                "+" | "-" | "*" | "/" | "%" | "neg" | "size" | "string" | "int" | "double"
            )
        }
        Node::Call {
            on: Some(_), name, ..
        } => matches!(name.as_str(), "size" | "lowerAscii" | "upperAscii" | "trim"),
        Node::If(three) => three.iter().skip(1).all(is_no_condition),
        _ => false,
    }
}

/// The first field that is selected from `root`, through fields and items alone, and that the schema does
/// not have.
pub fn unknown_field(expr: &Expr, root: &str, schema: &Value) -> Option<Error> {
    search(expr, &[(root, schema)]).err()
}

type Known<'a> = [(&'a str, &'a Value)];

/// The schema of an expression's value, where it is known; the error is about a part of it.
fn search<'a>(expr: &'a Expr, known: &Known<'a>) -> Result<Option<&'a Value>, Error> {
    match &expr.node {
        Node::Name(name) => Ok(known.iter().rev().find(|(var, _)| var == name).map(|(_, s)| *s)),
        Node::Select { of, field, .. } | Node::Has { of, field } => {
            let Some(schema) = search(of, known)? else {
                return Ok(None);
            };
            let found = below(schema, field)
                .map_err(|()| Error::new(expr.at, format!("undefined field '{field}'")))?;
            Ok(if matches!(expr.node, Node::Has { .. }) {
                None
            } else {
                found
            })
        }
        Node::Index { of, index, .. } => {
            search(index, known)?;
            let Some(schema) = search(of, known)? else {
                return Ok(None);
            };
            let items = schema.get("items").or_else(|| schema.get("additionalProperties"));
            Ok(items.filter(|s| s.is_object()))
        }
        Node::Each(each) => {
            let range = search(&each.range, known)?;
            let mut inner = known.to_vec();
            let shadow: &'static Value = &Value::Null;
            // The variables hide others of their names, whatever is known of them.
            inner.push((&each.first, shadow));
            inner.push((&each.second, shadow));
            if let Some(items) = range.and_then(|s| s.get("items")) {
                let variable = if each.second.is_empty() {
                    &each.first
                } else {
                    &each.second
                };
                inner.push((variable, items));
            }
            for part in each.filter.iter().chain([&each.body]) {
                search(part, &inner)?;
            }
            Ok(range.filter(|_| each.how == How::Filter))
        }
        Node::Bind { name, value, body }
        | Node::OptMap {
            name, value, body, ..
        } => {
            let value = search(value, known)?;
            let mut inner = known.to_vec();
            inner.push((name, value.unwrap_or(&Value::Null)));
            search(body, &inner)?;
            Ok(None)
        }
        _ => {
            for child in expr.children() {
                search(child, known)?;
            }
            Ok(None)
        }
    }
}

/// The schema of a field: unknown where anything goes, an error where there is no such field.
fn below<'a>(schema: &'a Value, field: &str) -> Result<Option<&'a Value>, ()> {
    let found = member(Some(schema), field).or_else(|| member(Some(schema), &unescape(field)));
    if found.is_some() {
        return Ok(found);
    }
    let flag = |key: &str| schema.get(key).is_some_and(|v| v == true);
    let open = flag("x-kubernetes-preserve-unknown-fields")
        || flag("x-kubernetes-embedded-resource")
        || flag("x-kubernetes-int-or-string")
        || schema.get("additionalProperties").is_some_and(|v| v != false)
        || schema.get("type").and_then(Value::as_str) != Some("object");
    let common = matches!(field, "apiVersion" | "kind" | "metadata");
    if open || common { Ok(None) } else { Err(()) }
}
