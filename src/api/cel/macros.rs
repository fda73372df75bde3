//! Macros: calls that the parser turns into something else, since their arguments are not values.

use super::error::Error;
use super::expr::{Each, Expr, How, Node};
use super::lists;

/// `on.name(args)`: a macro, a function of a namespace such as `sets.contains`, or a method.
pub fn method(at: usize, on: Expr, name: String, args: Vec<Expr>) -> Result<Expr, Error> {
    let how = match (name.as_str(), args.len()) {
        ("all", 2 | 3) => Some(How::All),
        ("exists", 2 | 3) => Some(How::Exists),
        ("exists_one" | "existsOne", 2 | 3) => Some(How::ExistsOne),
        ("filter", 2) => Some(How::Filter),
        ("map", 2 | 3) | ("transformList", 3 | 4) => Some(How::Map),
        ("transformMap", 3 | 4) => Some(How::TransformMap),
        _ => None,
    };
    if let Some(how) = how {
        return each(at, how, &name, on, args);
    }
    let in_namespace = match &on.node {
        Node::Name(space) => matches!(
            space.as_str(),
            "sets" | "lists" | "optional" | "cel" | "math" | "strings" | "format" | "jsonpatch"
        ),
        _ => false,
    };
    let in_namespace = in_namespace || (name == "isCanonical" && args.len() == 1);
    match (name.as_str(), &on.node) {
        ("bind", Node::Name(space)) if space == "cel" && args.len() == 3 => bind(at, args),
        ("sortBy", on_node) if args.len() == 2 => match on_node {
            Node::Literal(_) | Node::Map(_) => Err(Error::new(
                at,
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression",
            )),
            _ => sort_by(at, on, args),
        },
        ("optMap" | "optFlatMap", _) if args.len() == 2 => opt_map(at, on, name == "optFlatMap", args),
        (_, Node::Name(space)) if in_namespace => {
            let name = format!("{space}.{name}");
            Ok(Expr::new(at, Node::Call { on: None, name, args }))
        }
        _ => Ok(Expr::new(
            at,
            Node::Call {
                on: Some(Box::new(on)),
                name,
                args,
            },
        )),
    }
}

fn variable(arg: Option<Expr>, at: usize) -> Result<String, Error> {
    match arg.map(|arg| arg.node) {
        Some(Node::Name(name)) => Ok(name),
        _ => Err(Error::new(at, "argument must be a simple name")),
    }
}

fn missing(at: usize) -> Error {
    Error::new(at, "Syntax error: too few arguments")
}

fn each(at: usize, how: How, name: &str, range: Expr, args: Vec<Expr>) -> Result<Expr, Error> {
    let count = args.len();
    let mut args = args.into_iter();
    let first = variable(args.next(), at)?;
    // `map` has one variable and perhaps a filter; `transform…` has two and perhaps a filter; tests have one or two.
    let (variables, filtered) = match name {
        "map" => (1, count == 3),
        "transformList" | "transformMap" => (2, count == 4),
        _ => (count - 1, false),
    };
    let second = if variables == 2 {
        variable(args.next(), at)?
    } else {
        String::new()
    };
    let filter = if filtered { args.next() } else { None };
    let body = args.next().ok_or_else(|| missing(at))?;
    let each = Each {
        how,
        range,
        first,
        second,
        filter,
        body,
    };
    Ok(Expr::new(at, Node::Each(Box::new(each))))
}

fn bind(at: usize, args: Vec<Expr>) -> Result<Expr, Error> {
    let mut args = args.into_iter();
    let name = variable(args.next(), at)?;
    let value = Box::new(args.next().ok_or_else(|| missing(at))?);
    let body = Box::new(args.next().ok_or_else(|| missing(at))?);
    Ok(Expr::new(at, Node::Bind { name, value, body }))
}

/// A list in the order of what is computed of its items: `sortBy(name, key)` sorts by the keys of all items.
fn sort_by(at: usize, on: Expr, args: Vec<Expr>) -> Result<Expr, Error> {
    // Nobody can write such a name.
    const INPUT: &str = "@__sortBy_input__";
    let input = || Expr::new(at, Node::Name(INPUT.to_owned()));
    let keys = each(at, How::Map, "map", input(), args)?;
    let call = Node::Call {
        on: Some(Box::new(input())),
        name: lists::SORT_BY.to_owned(),
        args: vec![keys],
    };
    let bound = Node::Bind {
        name: INPUT.to_owned(),
        value: Box::new(on),
        body: Box::new(Expr::new(at, call)),
    };
    Ok(Expr::new(at, bound))
}

fn opt_map(at: usize, value: Expr, flat: bool, args: Vec<Expr>) -> Result<Expr, Error> {
    let mut args = args.into_iter();
    let name = variable(args.next(), at)?;
    let body = Box::new(args.next().ok_or_else(|| missing(at))?);
    Ok(Expr::new(
        at,
        Node::OptMap {
            name,
            value: Box::new(value),
            body,
            flat,
        },
    ))
}
