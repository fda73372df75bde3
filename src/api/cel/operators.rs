//! What operators take and give.

use super::types::Type;

/// Whether it may decide something.
pub fn is_condition(kind: &Type<'_>) -> bool {
    matches!(kind, Type::Bool | Type::Dyn(_))
}

/// What cel-go calls an operator.
pub fn sign_of(name: &str) -> &str {
    match name {
        "!" => "!_",
        "neg" => "-_",
        "==" => "_==_",
        "!=" => "_!=_",
        "<" => "_<_",
        "<=" => "_<=_",
        ">" => "_>_",
        ">=" => "_>=_",
        "in" => "@in",
        "+" => "_+_",
        "-" => "_-_",
        "*" => "_*_",
        "/" => "_/_",
        "%" => "_%_",
        other => other,
    }
}

/// What an operator gives; the outer `None` is for what is no operator, the inner for what it cannot be applied to.
pub fn operator<'s>(name: &str, kinds: &[Type<'s>]) -> Option<Option<Type<'s>>> {
    Some(match (name, kinds) {
        ("!", [a]) => is_condition(a).then_some(Type::Bool),
        ("neg", [a]) => matches!(a, Type::Int | Type::Double | Type::Dyn(_)).then(|| a.clone()),
        ("==" | "!=", [a, b]) => a.join(b).map(|_| Type::Bool),
        ("<" | "<=" | ">" | ">=", [a, b]) => ordered(a, b).then_some(Type::Bool),
        ("in", [a, b]) => match b {
            Type::Dyn(_) | Type::Object(_) => Some(Type::Bool),
            Type::List(of, _) | Type::Map(of, _, _) => of.join(a).map(|_| Type::Bool),
            _ => None,
        },
        ("+" | "-" | "*" | "/" | "%", [a, b]) => arithmetic(name, a, b),
        _ => return None,
    })
}

fn is_number(kind: &Type<'_>) -> bool {
    matches!(kind, Type::Int | Type::Uint | Type::Double)
}

fn ordered(a: &Type<'_>, b: &Type<'_>) -> bool {
    let comparable = |kind: &Type<'_>| {
        is_number(kind)
            || matches!(
                kind,
                Type::Bool | Type::Text(_) | Type::Bytes(_) | Type::Time | Type::Duration | Type::Dyn(_)
            )
    };
    comparable(a) && comparable(b) && ((is_number(a) && is_number(b)) || a.join(b).is_some())
}

fn arithmetic<'s>(name: &str, a: &Type<'s>, b: &Type<'s>) -> Option<Type<'s>> {
    match (name, a, b) {
        (_, Type::Dyn(_), Type::Dyn(_)) => Some(Type::DYN),
        ("+" | "-", Type::Time, Type::Duration) | ("+", Type::Duration, Type::Time) => Some(Type::Time),
        ("-", Type::Time, Type::Time) => Some(Type::Duration),
        ("+" | "-", Type::Duration, Type::Duration) => Some(Type::Duration),
        // Which of a time's forms it is depends on the other side.
        ("+" | "-", Type::Dyn(_), Type::Time | Type::Duration)
        | ("+" | "-", Type::Time | Type::Duration, Type::Dyn(_)) => Some(Type::DYN),
        ("+", Type::Text(_) | Type::Bytes(_) | Type::List(..), _)
        | ("+", _, Type::Text(_) | Type::Bytes(_) | Type::List(..)) => a.join(b),
        ("%", Type::Double, _) | ("%", _, Type::Double) => None,
        _ if is_number(a) || is_number(b) => a.join(b),
        _ => None,
    }
}
