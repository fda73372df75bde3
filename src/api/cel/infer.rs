//! What an expression must be, judged before it runs: its type and the most that it can cost (cel-go `checker`).

use std::rc::Rc;

use super::check::type_word;
use super::error::Error;
use super::estimate::{self, Cost};
use super::expr::{Each, Expr, How, Literal, Node};
use super::operators::{is_condition, operator, sign_of};
use super::signatures;
use super::types::Type;

/// The names in scope and what they are.
pub type Names<'e, 's> = Vec<(&'e str, Type<'s>)>;

/// What is known of an expression before it runs.
#[derive(Clone, Debug)]
pub struct Judged<'s> {
    /// What it gives.
    pub kind: Type<'s>,
    /// The most that it can cost.
    pub cost: Cost,
}

impl<'s> Judged<'s> {
    fn new(kind: Type<'s>, cost: Cost) -> Self {
        Self { kind, cost }
    }
}

/// The type and the highest cost of an expression.
///
/// # Errors
/// cel-go's text for the first part that cannot be right.
pub fn judge<'s>(expr: &Expr, names: &Names<'_, 's>) -> Result<Judged<'s>, Error> {
    match &expr.node {
        Node::Literal(literal) => Ok(Judged::new(of_literal(literal), estimate::NOTHING)),
        Node::Name(name) => Ok(Judged::new(of_name(name, names), estimate::LOOK)),
        Node::Select { of, field, optional } => select(expr, of, field, *optional, names),
        Node::Has { of, field } => {
            let of = judge(of, names)?;
            of.kind.field(field).map_err(|why| Error::new(expr.at, why))?;
            Ok(Judged::new(Type::Bool, of.cost + estimate::LOOK))
        }
        Node::Index { of, index, optional } => self::index(expr, of, index, *optional, names),
        Node::Call { on, name, args } => call(expr, on.as_deref(), name, args, names),
        Node::And(both) => logical(expr, "_&&_", both, names),
        Node::Or(both) => logical(expr, "_||_", both, names),
        Node::If(three) => choice(expr, three, names),
        Node::List(items) => list(items, names),
        Node::Map(entries) => map(entries, names),
        Node::Each(each) => self::each(expr, each, names),
        Node::Bind { name, value, body } => {
            let value = judge(value, names)?;
            let body = judge(body, &with(names, [(name.as_str(), value.kind)]))?;
            Ok(Judged::new(body.kind, value.cost + body.cost + estimate::LIST))
        }
        Node::OptMap {
            name,
            value,
            body,
            flat,
        } => {
            let value = judge(value, names)?;
            let inner = match &value.kind {
                Type::Optional(inner) => (**inner).clone(),
                _ => Type::DYN,
            };
            let body = judge(body, &with(names, [(name.as_str(), inner)]))?;
            let kind = if *flat {
                body.kind
            } else {
                Type::Optional(Rc::new(body.kind))
            };
            Ok(Judged::new(kind, value.cost + body.cost + estimate::LIST))
        }
    }
}

fn with<'e, 's, const N: usize>(names: &Names<'e, 's>, more: [(&'e str, Type<'s>); N]) -> Names<'e, 's> {
    let mut inner = names.clone();
    inner.extend(more);
    inner
}

fn of_literal<'s>(literal: &Literal) -> Type<'s> {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::Text(text) => Type::Text(text.chars().count() as u64),
        Literal::Bytes(bytes) => Type::Bytes(bytes.len() as u64),
    }
}

fn of_name<'s>(name: &str, names: &Names<'_, 's>) -> Type<'s> {
    match names.iter().rev().find(|(known, _)| *known == name) {
        Some((_, kind)) => kind.clone(),
        None if type_word(name).is_some() => Type::Type,
        None => Type::DYN,
    }
}

fn select<'s>(
    expr: &Expr,
    of: &Expr,
    field: &str,
    optional: bool,
    names: &Names<'_, 's>,
) -> Result<Judged<'s>, Error> {
    let of = judge(of, names)?;
    let kind = of.kind.field(field).map_err(|why| Error::new(expr.at, why))?;
    let kind = match kind {
        kind @ Type::Optional(_) => kind,
        kind if optional => Type::Optional(Rc::new(kind)),
        kind => kind,
    };
    Ok(Judged::new(kind, of.cost + estimate::LOOK))
}

fn no_overload(expr: &Expr, name: &str, on: Option<&Type<'_>>, args: &[&Type<'_>]) -> Error {
    let args: Vec<String> = args.iter().map(ToString::to_string).collect();
    let on = on.map_or(String::new(), |on| format!("{on}."));
    let args = args.join(", ");
    Error::new(
        expr.at,
        format!("found no matching overload for '{name}' applied to '{on}({args})'"),
    )
}

fn index<'s>(
    expr: &Expr,
    of: &Expr,
    index: &Expr,
    optional: bool,
    names: &Names<'_, 's>,
) -> Result<Judged<'s>, Error> {
    let (of, index) = (judge(of, names)?, judge(index, names)?);
    let (held, through) = match &of.kind {
        Type::Optional(inner) => ((**inner).clone(), true),
        kind => (kind.clone(), optional),
    };
    let fits = |wanted: &Type<'_>| wanted.join(&index.kind).is_some();
    let kind = match &held {
        Type::Dyn(_) => Type::DYN,
        Type::List(items, _) if fits(&Type::Int) => (**items).clone(),
        Type::Map(key, value, _) if fits(key) => (**value).clone(),
        _ => return Err(no_overload(expr, "_[_]", None, &[&of.kind, &index.kind])),
    };
    let kind = if through {
        Type::Optional(Rc::new(kind))
    } else {
        kind
    };
    Ok(Judged::new(kind, of.cost + index.cost + estimate::LOOK))
}

fn logical<'s>(
    expr: &Expr,
    sign: &str,
    both: &[Expr; 2],
    names: &Names<'_, 's>,
) -> Result<Judged<'s>, Error> {
    let [a, b] = both;
    let (a, b) = (judge(a, names)?, judge(b, names)?);
    if !is_condition(&a.kind) || !is_condition(&b.kind) {
        return Err(no_overload(expr, sign, None, &[&a.kind, &b.kind]));
    }
    Ok(Judged::new(Type::Bool, a.cost + b.cost))
}

fn choice<'s>(expr: &Expr, three: &[Expr; 3], names: &Names<'_, 's>) -> Result<Judged<'s>, Error> {
    let [condition, a, b] = three;
    let (condition, a, b) = (judge(condition, names)?, judge(a, names)?, judge(b, names)?);
    let joined = a.kind.join(&b.kind).filter(|_| is_condition(&condition.kind));
    let Some(kind) = joined else {
        let all = [&condition.kind, &a.kind, &b.kind];
        return Err(no_overload(expr, "_?_:_", None, &all));
    };
    Ok(Judged::new(kind, condition.cost + a.cost.max(b.cost)))
}

/// The type of the members of something that is written down: one for all.
fn one_type<'s>(sum: Type<'s>, item: &Expr, next: &Type<'s>) -> Result<Type<'s>, Error> {
    sum.join(next).ok_or_else(|| {
        let why = format!("expected type '{sum}' but found '{next}'");
        Error::new(item.at, why)
    })
}

fn list<'s>(items: &[(Expr, bool)], names: &Names<'_, 's>) -> Result<Judged<'s>, Error> {
    let (mut of, mut cost) = (Type::DYN, estimate::LIST);
    for (item, optional) in items {
        let next = judge(item, names)?;
        cost = cost + next.cost;
        let kind = match next.kind {
            Type::Optional(inner) if *optional => (*inner).clone(),
            kind => kind,
        };
        of = one_type(of, item, &kind)?;
    }
    Ok(Judged::new(Type::List(Rc::new(of), items.len() as u64), cost))
}

fn map<'s>(entries: &[(Expr, Expr, bool)], names: &Names<'_, 's>) -> Result<Judged<'s>, Error> {
    let (mut keys, mut values, mut cost) = (Type::DYN, Type::DYN, estimate::MAP);
    let mut mixed = false;
    for (key, value, _) in entries {
        let (k, v) = (judge(key, names)?, judge(value, names)?);
        cost = cost + k.cost + v.cost;
        keys = one_type(keys, key, &k.kind)?;
        match values.join(&v.kind) {
            Some(both) => values = both,
            None => mixed = true,
        }
    }
    let values = if mixed { Type::DYN } else { values };
    let kind = Type::Map(Rc::new(keys), Rc::new(values), entries.len() as u64);
    Ok(Judged::new(kind, cost))
}

/// The members of what a macro goes over: what its first and its second variable are.
fn members<'s>(expr: &Expr, range: &Type<'s>, two: bool) -> Result<(Type<'s>, Type<'s>), Error> {
    match range {
        Type::Dyn(_) => Ok((Type::DYN, Type::DYN)),
        Type::List(of, _) if two => Ok((Type::Int, (**of).clone())),
        Type::List(of, _) => Ok(((**of).clone(), Type::DYN)),
        Type::Map(key, of, _) => Ok(((**key).clone(), (**of).clone())),
        // Objects with fields can be gone over by their names when it runs.
        Type::Object(_) => Ok((Type::TEXT, Type::DYN)),
        other => Err(Error::new(
            expr.at,
            format!(
                "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
            ),
        )),
    }
}

fn each<'s>(expr: &Expr, each: &Each, names: &Names<'_, 's>) -> Result<Judged<'s>, Error> {
    let range = judge(&each.range, names)?;
    let (first, second) = members(&each.range, &range.kind, !each.second.is_empty())?;
    let inner = with(
        names,
        [
            (each.first.as_str(), first.clone()),
            (each.second.as_str(), second),
        ],
    );
    let filter = each
        .filter
        .as_ref()
        .map(|filter| judge(filter, &inner))
        .transpose()?;
    let body = judge(&each.body, &inner)?;
    let conditional = matches!(each.how, How::All | How::Exists | How::ExistsOne | How::Filter);
    if conditional && !is_condition(&body.kind) {
        let (sign, other) = match each.how {
            How::All => ("_&&_", Type::Bool),
            How::Exists => ("_||_", Type::Bool),
            How::ExistsOne => {
                return Err(no_overload(
                    expr,
                    "_?_:_",
                    None,
                    &[&body.kind, &Type::Int, &Type::Int],
                ));
            }
            _ => {
                return Err(no_overload(
                    expr,
                    "_?_:_",
                    None,
                    &[&body.kind, &range.kind, &range.kind],
                ));
            }
        };
        return Err(no_overload(expr, sign, None, &[&other, &body.kind]));
    }
    let count = range.kind.extent();
    let cost = range.cost + estimate::each(each.how, count, filter.map(|f| f.cost), body.cost);
    let kind = match each.how {
        How::All | How::Exists | How::ExistsOne => Type::Bool,
        How::Filter => match range.kind {
            Type::Map(key, ..) => Type::List(key, count),
            Type::List(of, _) => Type::List(of, count),
            _ => Type::List(Rc::new(Type::DYN), count),
        },
        How::Map => Type::List(Rc::new(body.kind), count),
        How::TransformMap => Type::Map(Rc::new(first), Rc::new(body.kind), count),
    };
    Ok(Judged::new(kind, cost))
}

fn call<'s>(
    expr: &Expr,
    on: Option<&Expr>,
    name: &str,
    args: &[Expr],
    names: &Names<'_, 's>,
) -> Result<Judged<'s>, Error> {
    let (mut kinds, mut numbers) = (Vec::new(), Vec::new());
    let mut cost = estimate::NOTHING;
    for part in on.into_iter().chain(args) {
        let judged = judge(part, names)?;
        cost = cost + judged.cost;
        kinds.push(judged.kind);
        numbers.push(number(part));
    }
    let given = match (on, operator(name, &kinds)) {
        (None, Some(given)) => given,
        _ => signatures::call(name, on.is_some(), &kinds),
    };
    let Some(kind) = given else {
        let (receiver, rest) = match (on, kinds.split_first()) {
            (Some(_), Some((receiver, rest))) => (Some(receiver), rest),
            _ => (None, kinds.as_slice()),
        };
        return Err(no_overload(
            expr,
            sign_of(name),
            receiver,
            &rest.iter().collect::<Vec<_>>(),
        ));
    };
    let (work, size) = estimate::call(name, &kinds, &numbers);
    let kind = match size {
        Some(size) => kind.sized(size),
        None => kind,
    };
    Ok(Judged::new(kind, cost + work))
}

/// The number that an expression is, if it is written down.
fn number(expr: &Expr) -> Option<u64> {
    match &expr.node {
        Node::Literal(Literal::Int(n)) => u64::try_from(*n).ok(),
        _ => None,
    }
}
