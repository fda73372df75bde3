//! Functions by name. What each does is in `strings` (text, time, conversions) and `library` (Kubernetes'
//! quantities, addresses, URLs, sets and lists).

use std::rc::Rc;

use super::val::Val;
use super::{authority, authorizer, library, lists, ops, strings};

/// What a function without a receiver may be called, and with how many arguments.
const GLOBAL: &[(&str, &[usize])] = &[
    ("!", &[1]),
    ("neg", &[1]),
    ("==", &[2]),
    ("!=", &[2]),
    ("<", &[2]),
    ("<=", &[2]),
    (">", &[2]),
    (">=", &[2]),
    ("in", &[2]),
    ("+", &[2]),
    ("-", &[2]),
    ("*", &[2]),
    ("/", &[2]),
    ("%", &[2]),
    ("size", &[1]),
    ("int", &[1]),
    ("uint", &[1]),
    ("double", &[1]),
    ("string", &[1]),
    ("bool", &[1]),
    ("bytes", &[1]),
    ("dyn", &[1]),
    ("type", &[1]),
    ("duration", &[1]),
    ("timestamp", &[1]),
    ("matches", &[2]),
    ("quantity", &[1]),
    ("isQuantity", &[1]),
    ("url", &[1]),
    ("isURL", &[1]),
    ("ip", &[1]),
    ("isIP", &[1]),
    ("ip.isCanonical", &[1]),
    ("cidr", &[1]),
    ("isCIDR", &[1]),
    ("sets.contains", &[2]),
    ("sets.equivalent", &[2]),
    ("sets.intersects", &[2]),
    ("lists.range", &[1]),
    ("optional.of", &[1]),
    ("optional.none", &[0]),
    ("optional.ofNonZeroValue", &[1]),
    ("optional.unwrap", &[1]),
    ("jsonpatch.escapeKey", &[1]),
    ("semver", &[1, 2]),
    ("isSemver", &[1, 2]),
    ("format.named", &[1]),
    ("format.dns1123Label", &[0]),
    ("format.dns1123Subdomain", &[0]),
    ("format.dns1035Label", &[0]),
    ("format.dns1123LabelPrefix", &[0]),
    ("format.dns1123SubdomainPrefix", &[0]),
    ("format.dns1035LabelPrefix", &[0]),
    ("format.qualifiedName", &[0]),
    ("format.labelValue", &[0]),
    ("format.uri", &[0]),
    ("format.uuid", &[0]),
    ("format.byte", &[0]),
    ("format.date", &[0]),
    ("format.datetime", &[0]),
];

/// The same for methods; the receiver is not counted.
const METHODS: &[(&str, &[usize])] = &[
    ("size", &[0]),
    ("contains", &[1]),
    ("startsWith", &[1]),
    ("endsWith", &[1]),
    ("matches", &[1]),
    ("charAt", &[1]),
    ("indexOf", &[1, 2]),
    ("lastIndexOf", &[1, 2]),
    ("lowerAscii", &[0]),
    ("upperAscii", &[0]),
    ("replace", &[2, 3]),
    ("split", &[1, 2]),
    ("substring", &[1, 2]),
    ("trim", &[0]),
    ("join", &[0, 1]),
    ("format", &[1]),
    ("find", &[1]),
    ("findAll", &[1, 2]),
    ("getFullYear", &[0, 1]),
    ("getMonth", &[0, 1]),
    ("getDate", &[0, 1]),
    ("getDayOfMonth", &[0, 1]),
    ("getDayOfWeek", &[0, 1]),
    ("getDayOfYear", &[0, 1]),
    ("getHours", &[0, 1]),
    ("getMinutes", &[0, 1]),
    ("getSeconds", &[0, 1]),
    ("getMilliseconds", &[0, 1]),
    ("isSorted", &[0]),
    ("sum", &[0]),
    ("min", &[0]),
    ("max", &[0]),
    ("first", &[0]),
    ("last", &[0]),
    ("reverse", &[0]),
    ("distinct", &[0]),
    ("slice", &[2]),
    ("flatten", &[0, 1]),
    ("sort", &[0]),
    (lists::SORT_BY, &[1]),
    ("unwrapOpt", &[0]),
    ("hasValue", &[0]),
    ("value", &[0]),
    ("orValue", &[1]),
    ("or", &[1]),
    ("isInteger", &[0]),
    ("asInteger", &[0]),
    ("asApproximateFloat", &[0]),
    ("sign", &[0]),
    ("add", &[1]),
    ("sub", &[1]),
    ("isGreaterThan", &[1]),
    ("isLessThan", &[1]),
    ("compareTo", &[1]),
    ("getScheme", &[0]),
    ("getHost", &[0]),
    ("getHostname", &[0]),
    ("getPort", &[0]),
    ("getEscapedPath", &[0]),
    ("getQuery", &[0]),
    ("family", &[0]),
    ("isUnspecified", &[0]),
    ("isLoopback", &[0]),
    ("isLinkLocalMulticast", &[0]),
    ("isLinkLocalUnicast", &[0]),
    ("isGlobalUnicast", &[0]),
    ("containsIP", &[1]),
    ("containsCIDR", &[1]),
    ("ip", &[0]),
    ("prefixLength", &[0]),
    ("masked", &[0]),
    ("major", &[0]),
    ("minor", &[0]),
    ("patch", &[0]),
    ("validate", &[1]),
    // What a policy's `authorizer` answers.
    ("group", &[1]),
    ("resource", &[1]),
    ("subresource", &[1]),
    ("namespace", &[1]),
    ("name", &[1]),
    ("fieldSelector", &[1]),
    ("labelSelector", &[1]),
    ("path", &[1]),
    ("serviceAccount", &[2]),
    ("check", &[1]),
    ("allowed", &[0]),
    ("reason", &[0]),
    ("errored", &[0]),
    ("error", &[0]),
];

/// Whether there is such a function.
pub fn exists(name: &str, method: bool, args: usize) -> bool {
    let table = if method { METHODS } else { GLOBAL };
    table
        .iter()
        .any(|(known, counts)| *known == name && counts.contains(&args))
}

/// What a pattern costs that was not seen before.
const COMPILING: usize = 500;

fn length(value: &Val<'_>) -> usize {
    match value {
        Val::Text(text) => text.len(),
        Val::Bytes(bytes) => bytes.len(),
        _ => value.size().unwrap_or(1),
    }
}

fn extents(values: &[Val<'_>]) -> Vec<usize> {
    values.iter().map(Val::extent).collect()
}

/// What a call costs beyond its one unit: what it must look at, a tenth of a unit per character.
pub fn cost(name: &str, values: &[Val<'_>]) -> usize {
    let first = values.first().map_or(0, length);
    let second = values.get(1).map_or(0, length);
    match name {
        "check" => authority::CHECK_COST,
        // Every item may have to be compared.
        "in" => values.get(1).map_or(0, Val::extent),
        "isSorted" | "sum" | "min" | "max" => first,
        "sets.contains" | "sets.equivalent" | "sets.intersects" => first.saturating_mul(second),
        "matches" | "find" | "findAll" => {
            let new = matches!(values.get(1), Some(Val::Text(text)) if !strings::is_known(text));
            let compiling = if new { COMPILING } else { 0 };
            let matching = first.div_ceil(10).saturating_mul(second.div_ceil(4).max(1));
            matching.saturating_add(compiling)
        }
        "==" | "!=" => extents(values).into_iter().min().unwrap_or(0).div_ceil(4),
        "+" | "contains" | "replace" | "split" | "join" | "indexOf" | "lastIndexOf" | "format" => {
            first.saturating_add(second).div_ceil(10)
        }
        "startsWith" | "endsWith" => second.div_ceil(10),
        "jsonpatch.escapeKey"
        | "lowerAscii"
        | "upperAscii"
        | "trim"
        | "substring"
        | "string"
        | "bytes"
        | "quantity"
        | "url"
        | "isURL"
        | "isQuantity"
        | "ip"
        | "isIP"
        | "cidr"
        | "isCIDR"
        | "timestamp"
        | "duration" => first.div_ceil(10),
        _ => lists::cost(name, values).unwrap_or(0),
    }
}

/// Calls a function without a receiver.
pub fn global<'a>(name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    match (name, args) {
        ("!", [Val::Bool(flag)]) => Ok(Val::Bool(!flag)),
        ("neg", [a]) => ops::negate(a),
        ("size", [a]) => size(a),
        ("dyn", [a]) => Ok(a.clone()),
        ("type", [a]) => Ok(Val::Type(a.type_name())),
        ("optional.of", [a]) => Ok(Val::Optional(Some(Rc::new(a.clone())))),
        ("optional.none", []) => Ok(Val::Optional(None)),
        ("optional.ofNonZeroValue", [a]) => Ok(Val::Optional(
            Some(a).filter(|a| !is_zero(a)).map(|a| Rc::new(a.clone())),
        )),
        ("optional.unwrap", [list]) => lists::unwrapped(&list.items().ok_or("no such overload")?),
        ("jsonpatch.escapeKey", [Val::Text(key)]) => {
            Ok(Val::text(&key.replace('~', "~0").replace('/', "~1")))
        }
        ("matches", [a, b]) => method("matches", &[a.clone(), b.clone()]),
        ("int" | "uint" | "double" | "string" | "bool" | "bytes" | "duration" | "timestamp", [a]) => {
            strings::convert(name, a)
        }
        ("==" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "+" | "-" | "*" | "/" | "%", [a, b]) => {
            ops::binary(name, a, b)
        }
        _ => library::global(name, args),
    }
}

/// Calls a method; the receiver comes first.
pub fn method<'a>(name: &str, values: &[Val<'a>]) -> Result<Val<'a>, String> {
    match values {
        [on] if name == "size" => size(on),
        [Val::Text(text), args @ ..] => strings::method(text, name, args),
        [Val::Time(at), args @ ..] => strings::time_part(*at, name, args),
        [Val::Duration(span)] => strings::duration_part(*span, name),
        [Val::Optional(inner), args @ ..] => optional(inner.as_deref(), name, args),
        [Val::Authority(on), args @ ..] => authorizer::method(on, name, args),
        [on, args @ ..] => library::method(on, name, args),
        [] => Err("no such overload".to_owned()),
    }
}

fn size<'a>(value: &Val<'a>) -> Result<Val<'a>, String> {
    let size = value.size().ok_or("no such overload")?;
    Ok(Val::Int(i64::try_from(size).unwrap_or(i64::MAX)))
}

fn optional<'a>(inner: Option<&Val<'a>>, name: &str, args: &[Val<'a>]) -> Result<Val<'a>, String> {
    match (name, inner, args) {
        ("hasValue", _, []) => Ok(Val::Bool(inner.is_some())),
        ("value", Some(value), []) => Ok(value.clone()),
        ("value", None, []) => Err("optional.none() dereference".to_owned()),
        ("orValue", Some(value), [_]) => Ok(value.clone()),
        ("orValue", None, [other]) => Ok(other.clone()),
        ("or", Some(value), [_]) => Ok(Val::Optional(Some(Rc::new(value.clone())))),
        ("or", None, [other]) => Ok(other.clone()),
        _ => Err("no such overload".to_owned()),
    }
}

fn is_zero(value: &Val<'_>) -> bool {
    match value {
        Val::Null | Val::Bool(false) | Val::Int(0) | Val::Uint(0) | Val::Optional(None) => true,
        Val::Double(n) => *n == 0.0,
        Val::Duration(span) => span.is_zero(),
        other => other.size() == Some(0),
    }
}
