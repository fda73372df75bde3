//! What can be known of an expression from its text alone: free names, and functions that do not exist.

use super::error::Error;
use super::expr::{Expr, Node};
use super::functions;

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
