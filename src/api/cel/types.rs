//! What sort of value an expression has, as far as that is known before it runs, and how large it may be.

use std::fmt;
use std::rc::Rc;

use serde_json::Value;

use super::names::{member, unescape};

/// The largest request that a server takes, bytes: what is larger cannot be in an object.
const REQUEST_MAX: u64 = 3 * 1024 * 1024;
/// The length of what nothing bounds.
pub const UNBOUNDED: u64 = i64::MAX as u64;
/// The most bytes of one character.
const CHARACTER_MAX: u64 = 4;
/// The longest text of a duration, and of a point in time.
const DURATION_MAX: u64 = 32;

/// A type; the numbers are the most characters, bytes or members that a value may have.
#[derive(Clone, Debug)]
pub enum Type<'s> {
    /// Anything: whether it fits is seen when it runs. As a text it may be so long.
    Dyn(u64),
    /// The absence of a value.
    Null,
    /// True or false.
    Bool,
    /// A whole number.
    Int,
    /// A whole number that is not negative.
    Uint,
    /// A number.
    Double,
    /// A text.
    Text(u64),
    /// Bytes.
    Bytes(u64),
    /// A point in time.
    Time,
    /// A span of time.
    Duration,
    /// A list of items of one type.
    List(Rc<Type<'s>>, u64),
    /// A map of keys and values of one type each.
    Map(Rc<Type<'s>>, Rc<Type<'s>>, u64),
    /// An object with the fields of a schema.
    Object(&'s Value),
    /// A value that may be absent.
    Optional(Rc<Type<'s>>),
    /// A type, as `type(x)` gives it.
    Type,
    /// One of Kubernetes' own, such as `kubernetes.Quantity`.
    Own(&'static str),
}

impl<'s> Type<'s> {
    /// Anything, of any size.
    pub const DYN: Self = Type::Dyn(UNBOUNDED);
    /// A text of which nothing more is known.
    pub const TEXT: Self = Type::Text(UNBOUNDED);

    /// The type of the values of a schema.
    pub fn of(schema: &'s Value) -> Self {
        let flag = |key: &str| schema.get(key) == Some(&Value::Bool(true));
        if flag("x-kubernetes-int-or-string") {
            // The number is the smaller one.
            return Type::Dyn(REQUEST_MAX - 2);
        }
        match schema.get("type").and_then(Value::as_str).unwrap_or_default() {
            "integer" => Type::Int,
            "number" => Type::Double,
            "boolean" => Type::Bool,
            "string" => text(schema),
            "array" => {
                let of = schema.get("items").unwrap_or(&Value::Null);
                let bound = bound(schema, "maxItems", || (REQUEST_MAX - 2) / (least_size(of) + 1));
                Type::List(Rc::new(Type::of(of)), bound)
            }
            "object" => object(schema),
            _ => Type::DYN,
        }
    }

    /// The type of a field; an error where there is none.
    pub fn field(&self, name: &str) -> Result<Type<'s>, String> {
        match self {
            Type::Dyn(_) => Ok(Type::DYN),
            Type::Map(_, of, _) => Ok((**of).clone()),
            Type::Optional(of) => of.field(name).map(|field| Type::Optional(Rc::new(field))),
            Type::Object(schema) => {
                let found = member(Some(schema), name).or_else(|| member(Some(schema), &unescape(name)));
                let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
                match found {
                    Some(found) => Ok(Type::of(found)),
                    None if embedded && matches!(name, "apiVersion" | "kind") => Ok(Type::TEXT),
                    None if embedded && name == "metadata" => Ok(Type::DYN),
                    None => Err(format!("undefined field '{name}'")),
                }
            }
            other => Err(format!("type '{other}' does not support field selection")),
        }
    }

    /// How large a value may be: characters, bytes or members; 1 for what has no extent.
    pub fn extent(&self) -> u64 {
        match self {
            Type::Text(max)
            | Type::Bytes(max)
            | Type::List(_, max)
            | Type::Map(_, _, max)
            | Type::Dyn(max) => *max,
            Type::Optional(_) => UNBOUNDED,
            Type::Object(_) => 0,
            _ => 1,
        }
    }

    /// The same type, of values of another extent.
    pub fn sized(self, max: u64) -> Self {
        match self {
            Type::Text(_) => Type::Text(max),
            Type::Bytes(_) => Type::Bytes(max),
            Type::List(of, _) => Type::List(of, max),
            Type::Map(key, of, _) => Type::Map(key, of, max),
            other => other,
        }
    }

    /// Whether nothing is known of it, or of a part of it.
    pub fn is_dyn(&self) -> bool {
        matches!(self, Type::Dyn(_))
    }

    /// The type of values of either, if one fits both: anything fits what may be anything.
    pub fn join(&self, other: &Self) -> Option<Type<'s>> {
        let both = |a: &Rc<Self>, b: &Rc<Self>| a.join(b).map(Rc::new);
        Some(match (self, other) {
            (Type::Dyn(a), Type::Dyn(b)) => Type::Dyn(*a.max(b)),
            (Type::Dyn(_), other) | (other, Type::Dyn(_)) => other.clone(),
            (Type::Null, other @ (Type::Object(_) | Type::Own(_) | Type::Time | Type::Duration))
            | (other @ (Type::Object(_) | Type::Own(_) | Type::Time | Type::Duration), Type::Null) => {
                other.clone()
            }
            (Type::Text(a), Type::Text(b)) => Type::Text(*a.max(b)),
            (Type::Bytes(a), Type::Bytes(b)) => Type::Bytes(*a.max(b)),
            (Type::List(a, m), Type::List(b, n)) => Type::List(both(a, b)?, *m.max(n)),
            (Type::Map(k, a, m), Type::Map(l, b, n)) => Type::Map(both(k, l)?, both(a, b)?, *m.max(n)),
            (Type::Optional(a), Type::Optional(b)) => Type::Optional(both(a, b)?),
            // An object may be compared with a map that is written down.
            (Type::Object(a), Type::Object(b)) if a == b => self.clone(),
            (Type::Object(_), Type::Map(..)) | (Type::Map(..), Type::Object(_)) => Type::DYN,
            (Type::Own(a), Type::Own(b)) if a == b => self.clone(),
            (Type::Null, Type::Null)
            | (Type::Bool, Type::Bool)
            | (Type::Int, Type::Int)
            | (Type::Uint, Type::Uint)
            | (Type::Double, Type::Double)
            | (Type::Time, Type::Time)
            | (Type::Duration, Type::Duration)
            | (Type::Type, Type::Type) => self.clone(),
            _ => return None,
        })
    }
}

fn bound(schema: &Value, key: &str, otherwise: impl FnOnce() -> u64) -> u64 {
    match schema.get(key).and_then(Value::as_i64) {
        Some(max) => u64::try_from(max).unwrap_or(0),
        None => otherwise(),
    }
}

fn text(schema: &Value) -> Type<'_> {
    let max = || match schema.get("enum").and_then(Value::as_array) {
        Some(values) => {
            let lengths = values
                .iter()
                .map(|value| value.as_str().map_or(0, str::len) as u64);
            lengths.max().unwrap_or(0)
        }
        None => REQUEST_MAX - 2,
    };
    match schema.get("format").and_then(Value::as_str).unwrap_or_default() {
        "byte" => Type::Bytes(bound(schema, "maxLength", max)),
        "duration" => Type::Duration,
        "date" | "date-time" => Type::Time,
        _ => match schema.get("maxLength") {
            Some(_) => Type::Text(bound(schema, "maxLength", || 0).saturating_mul(CHARACTER_MAX)),
            None => Type::Text(max()),
        },
    }
}

fn object(schema: &Value) -> Type<'_> {
    if let Some(of) = schema.get("additionalProperties").filter(|of| of.is_object()) {
        let bound = bound(schema, "maxProperties", || {
            (REQUEST_MAX - 2) / (least_size(of) + 6)
        });
        return Type::Map(Rc::new(Type::TEXT), Rc::new(Type::of(of)), bound);
    }
    let described = schema.get("properties").is_some();
    let open = schema.get("x-kubernetes-preserve-unknown-fields") == Some(&Value::Bool(true));
    let embedded = schema.get("x-kubernetes-embedded-resource") == Some(&Value::Bool(true));
    let anything = schema.get("additionalProperties") == Some(&Value::Bool(true));
    if !described && !embedded && (open || anything) {
        return Type::DYN;
    }
    Type::Object(schema)
}

/// The fewest bytes that a value takes in a request.
fn least_size(schema: &Value) -> u64 {
    match Type::of(schema) {
        Type::Bool => 4,
        Type::Text(_) | Type::Bytes(_) | Type::List(..) | Type::Map(..) => 2,
        Type::Time => 12,
        Type::Duration => 4,
        Type::Object(schema) => {
            let needed = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let each = needed.filter_map(Value::as_str).map(|name| {
                let of = member(Some(schema), name).unwrap_or(&Value::Null);
                // What has a default need not be sent.
                if of.get("default").is_some() {
                    0
                } else {
                    name.len() as u64 + 4 + least_size(of)
                }
            });
            2 + each.sum::<u64>()
        }
        _ => 1,
    }
}

/// The most values of that schema that one request can hold.
pub fn most_in_a_request(schema: &Value) -> u64 {
    REQUEST_MAX / (least_size(schema) + 1)
}

/// How long a value is as a text.
pub fn text_length(of: &Type<'_>) -> u64 {
    match of {
        Type::Text(max) | Type::Bytes(max) | Type::Dyn(max) => *max,
        _ => DURATION_MAX,
    }
}

impl fmt::Display for Type<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Type::Dyn(_) => "dyn",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::Text(_) => "string",
            Type::Bytes(_) => "bytes",
            Type::Time => "timestamp",
            Type::Duration => "duration",
            Type::Object(_) => "object",
            Type::Type => "type",
            Type::Own(name) => name,
            Type::List(of, _) => return write!(f, "list({of})"),
            Type::Map(key, of, _) => return write!(f, "map({key}, {of})"),
            Type::Optional(of) => return write!(f, "optional_type({of})"),
        })
    }
}
