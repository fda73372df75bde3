//! Operators and access to members.

use std::cmp::Ordering;
use std::rc::Rc;

use super::authorizer;
use super::val::Val;

const NO_OVERLOAD: &str = "no such overload";

fn optional(value: Option<Val<'_>>) -> Val<'_> {
    Val::Optional(value.map(Rc::new))
}

/// `of.field`; what is optional stays optional.
pub fn select<'a>(of: &Val<'a>, field: &str, lenient: bool) -> Result<Val<'a>, String> {
    match of {
        Val::Optional(None) => return Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => return Ok(optional(inner.field(field))),
        Val::Authority(asked) => return authorizer::member(asked, field),
        _ => {}
    }
    if !of.is_map() {
        return Err(NO_OVERLOAD.to_owned());
    }
    match (of.field(field), lenient) {
        (Some(Val::Failed(why)), _) => Err(why.to_string()),
        (found, true) => Ok(optional(found)),
        (Some(found), false) => Ok(found),
        (None, false) => Err(format!("no such key: {field}")),
    }
}

/// `has(of.field)`.
pub fn has<'a>(of: &Val<'a>, field: &str) -> Result<Val<'a>, String> {
    match of {
        Val::Optional(None) => Ok(Val::Bool(false)),
        Val::Optional(Some(inner)) => has(inner, field),
        Val::Json(serde_json::Value::Object(_), _) | Val::Map(_) => Ok(Val::Bool(of.field(field).is_some())),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}

/// `of[index]`.
pub fn index<'a>(of: &Val<'a>, index: &Val<'a>, lenient: bool) -> Result<Val<'a>, String> {
    match of {
        Val::Optional(None) => return Ok(Val::Optional(None)),
        Val::Optional(Some(inner)) => return self::index(inner, index, true),
        _ => {}
    }
    let found = if of.is_list() {
        let place = match index {
            Val::Int(n) => usize::try_from(*n).ok(),
            Val::Uint(n) => usize::try_from(*n).ok(),
            Val::Double(n) if n.fract() == 0.0 && *n >= 0.0 => Some(*n as usize),
            _ => return Err(NO_OVERLOAD.to_owned()),
        };
        place.and_then(|place| of.item(place))
    } else {
        member(of, index).ok_or_else(|| NO_OVERLOAD.to_owned())?
    };
    match (found, lenient) {
        (found, true) => Ok(optional(found)),
        (Some(found), false) => Ok(found),
        (None, false) if of.is_list() => Err(format!("index out of bounds: {}", super::strings::show(index))),
        (None, false) => Err(format!("no such key: {}", super::strings::show(index))),
    }
}

/// The value of a key; the outer `None` for what is no map.
fn member<'a>(of: &Val<'a>, key: &Val<'a>) -> Option<Option<Val<'a>>> {
    match (of, key) {
        (Val::Map(entries), _) => {
            let found = entries.iter().find(|(known, _)| known.equals(key));
            Some(found.map(|(_, value)| value.clone()))
        }
        (Val::Json(serde_json::Value::Object(map), schema), Val::Text(name)) => Some(
            map.get_key_value(&**name)
                .map(|(name, value)| Val::json(value, super::names::member(*schema, name))),
        ),
        (Val::Json(serde_json::Value::Object(_), _), _) => Some(None),
        _ => None,
    }
}

/// A binary operator by its sign.
pub fn binary<'a>(sign: &str, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    match sign {
        "==" => Ok(Val::Bool(a.equals(b))),
        "!=" => Ok(Val::Bool(!a.equals(b))),
        "<" | "<=" | ">" | ">=" => compare(sign, a, b),
        "in" => contains(b, a),
        "+" => add(a, b),
        "-" => subtract(a, b),
        _ => multiply(sign, a, b),
    }
}

fn compare<'a>(sign: &str, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    let order = match (a.order(b), a.number_order(b)) {
        (Some(order), _) => order,
        // NaN is neither less nor greater.
        (None, Some(_)) => return Ok(Val::Bool(false)),
        (None, None) => return Err(NO_OVERLOAD.to_owned()),
    };
    Ok(Val::Bool(match sign {
        "<" => order == Ordering::Less,
        "<=" => order != Ordering::Greater,
        ">" => order == Ordering::Greater,
        _ => order != Ordering::Less,
    }))
}

/// Whether a list has an item, or a map a key.
pub fn contains<'a>(holder: &Val<'a>, wanted: &Val<'a>) -> Result<Val<'a>, String> {
    if let Some(items) = holder.items() {
        return Ok(Val::Bool(items.iter().any(|item| item.equals(wanted))));
    }
    let found = member(holder, wanted).ok_or_else(|| NO_OVERLOAD.to_owned())?;
    Ok(Val::Bool(found.is_some()))
}

fn overflow<T>(made: Option<T>, text: &str) -> Result<T, String> {
    made.ok_or_else(|| text.to_owned())
}

fn add<'a>(a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    const TOO_FAR: &str = "timestamp overflow";
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Val::Int(overflow(a.checked_add(*b), "integer overflow")?),
        (Val::Uint(a), Val::Uint(b)) => Val::Uint(overflow(a.checked_add(*b), "unsigned integer overflow")?),
        (Val::Double(a), Val::Double(b)) => Val::Double(a + b),
        (Val::Text(a), Val::Text(b)) => Val::Text(Rc::from(format!("{a}{b}"))),
        (Val::Bytes(a), Val::Bytes(b)) => Val::Bytes(Rc::from([&**a, &**b].concat())),
        (Val::Duration(a), Val::Duration(b)) => {
            Val::Duration(overflow(a.checked_add(*b), "duration overflow")?)
        }
        (Val::Time(t), Val::Duration(d)) | (Val::Duration(d), Val::Time(t)) => {
            Val::Time(t.checked_add(*d).map_err(|_| TOO_FAR.to_owned())?)
        }
        _ => joined(a, b)?,
    })
}

/// Two lists as one; of a set, what is new is added.
fn joined<'a>(a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    let (Some(mut items), Some(more)) = (a.items(), b.items()) else {
        return Err(NO_OVERLOAD.to_owned());
    };
    let set = a.is_set();
    for item in more {
        if !set || !items.iter().any(|known| known.equals(&item)) {
            items.push(item);
        }
    }
    Ok(Val::list(items))
}

fn subtract<'a>(a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    Ok(match (a, b) {
        (Val::Int(a), Val::Int(b)) => Val::Int(overflow(a.checked_sub(*b), "integer overflow")?),
        (Val::Uint(a), Val::Uint(b)) => Val::Uint(overflow(a.checked_sub(*b), "unsigned integer overflow")?),
        (Val::Double(a), Val::Double(b)) => Val::Double(a - b),
        (Val::Duration(a), Val::Duration(b)) => {
            Val::Duration(overflow(a.checked_sub(*b), "duration overflow")?)
        }
        (Val::Time(a), Val::Time(b)) => Val::Duration(a.duration_since(*b)),
        (Val::Time(a), Val::Duration(b)) => {
            Val::Time(a.checked_sub(*b).map_err(|_| "timestamp overflow".to_owned())?)
        }
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

fn multiply<'a>(sign: &str, a: &Val<'a>, b: &Val<'a>) -> Result<Val<'a>, String> {
    Ok(match (sign, a, b) {
        ("*", Val::Int(a), Val::Int(b)) => Val::Int(overflow(a.checked_mul(*b), "integer overflow")?),
        ("*", Val::Uint(a), Val::Uint(b)) => {
            Val::Uint(overflow(a.checked_mul(*b), "unsigned integer overflow")?)
        }
        ("*", Val::Double(a), Val::Double(b)) => Val::Double(a * b),
        ("/", Val::Double(a), Val::Double(b)) => Val::Double(a / b),
        ("/", Val::Int(_), Val::Int(0)) | ("/", Val::Uint(_), Val::Uint(0)) => {
            return Err("division by zero".into());
        }
        ("/", Val::Int(a), Val::Int(b)) => Val::Int(overflow(a.checked_div(*b), "integer overflow")?),
        ("/", Val::Uint(a), Val::Uint(b)) => Val::Uint(a / b),
        ("%", Val::Int(_), Val::Int(0)) | ("%", Val::Uint(_), Val::Uint(0)) => {
            return Err("modulus by zero".into());
        }
        ("%", Val::Int(a), Val::Int(b)) => Val::Int(overflow(a.checked_rem(*b), "integer overflow")?),
        ("%", Val::Uint(a), Val::Uint(b)) => Val::Uint(a % b),
        _ => return Err(NO_OVERLOAD.to_owned()),
    })
}

/// `-a`.
pub fn negate<'a>(a: &Val<'a>) -> Result<Val<'a>, String> {
    match a {
        Val::Int(n) => Ok(Val::Int(overflow(n.checked_neg(), "integer overflow")?)),
        Val::Double(n) => Ok(Val::Double(-n)),
        Val::Duration(d) => Ok(Val::Duration(-*d)),
        _ => Err(NO_OVERLOAD.to_owned()),
    }
}
