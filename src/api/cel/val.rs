//! Values while an expression is evaluated.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::rc::Rc;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::authority::Authority;
use super::names::{member, unescape};
use super::semver::Semver;
use crate::go;
use crate::quantity::Quantity;

/// A value. Objects and lists of what is under review stay where they are, with the schema that says how to
/// read them.
#[derive(Clone, Debug)]
pub enum Val<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A signed number.
    Int(i64),
    /// An unsigned number.
    Uint(u64),
    /// A number with a fraction.
    Double(f64),
    /// Text.
    Text(Rc<str>),
    /// Bytes.
    Bytes(Rc<[u8]>),
    /// A computed list.
    List(Rc<Vec<Val<'a>>>),
    /// A computed map, in the order in which it was written.
    Map(Rc<Vec<(Val<'a>, Val<'a>)>>),
    /// A span of time.
    Duration(SignedDuration),
    /// A point in time.
    Time(Timestamp),
    /// The type of a value.
    Type(&'static str),
    /// A value that may be absent.
    Optional(Option<Rc<Val<'a>>>),
    /// A `resource.Quantity`.
    Quantity(Quantity),
    /// An IP address.
    Ip(IpAddr),
    /// A range of IP addresses: any address in it, and the length of the prefix.
    Cidr(IpAddr, u8),
    /// An absolute URL, or one that begins with a path.
    Url(Rc<str>),
    /// A version.
    Semver(Rc<Semver>),
    /// What texts may look like.
    Format(&'static str),
    /// An object or list under review, and its schema.
    Json(&'a Value, Option<&'a Value>),
    /// What can be asked about permissions.
    Authority(Authority<'a>),
    /// A member that could not be computed: an error for whoever asks for it.
    Failed(Rc<str>),
}

impl<'a> Val<'a> {
    /// Text.
    pub fn text(text: &str) -> Self {
        Val::Text(Rc::from(text))
    }

    /// A list.
    pub fn list(items: Vec<Val<'a>>) -> Self {
        Val::List(Rc::new(items))
    }

    /// A JSON value as its schema (structural, as JSON) says it is to be read.
    pub fn json(value: &'a Value, schema: Option<&'a Value>) -> Self {
        let said = |key: &str| {
            schema
                .and_then(|s| s.get(key))
                .and_then(Value::as_str)
                .unwrap_or("")
        };
        match value {
            Value::Null => Val::Null,
            Value::Bool(flag) => Val::Bool(*flag),
            Value::Number(number) => match number.as_i64() {
                Some(whole) if said("type") != "number" => Val::Int(whole),
                _ => Val::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => formatted(text, said("format")).unwrap_or_else(|| Val::text(text)),
            Value::Array(_) | Value::Object(_) => Val::Json(value, schema),
        }
    }

    /// The name of its type, as `type()` and error texts have it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Val::Null => "null_type",
            Val::Bool(_) => "bool",
            Val::Int(_) => "int",
            Val::Uint(_) => "uint",
            Val::Double(_) => "double",
            Val::Text(_) => "string",
            Val::Bytes(_) => "bytes",
            Val::List(_) | Val::Json(Value::Array(_), _) => "list",
            Val::Map(_) | Val::Json(..) => "map",
            Val::Duration(_) => "google.protobuf.Duration",
            Val::Time(_) => "google.protobuf.Timestamp",
            Val::Type(_) => "type",
            Val::Optional(_) => "optional_type",
            Val::Quantity(_) => "kubernetes.Quantity",
            Val::Ip(_) => "net.IP",
            Val::Cidr(..) => "net.CIDR",
            Val::Url(_) => "kubernetes.URL",
            Val::Semver(_) => "kubernetes.Semver",
            Val::Format(_) => "kubernetes.NamedFormat",
            Val::Authority(asked) => asked.type_name(),
            Val::Failed(_) => "error",
        }
    }

    /// The items of a list; `None` for anything else.
    pub fn items(&self) -> Option<Vec<Val<'a>>> {
        match self {
            Val::List(items) => Some(items.to_vec()),
            Val::Json(Value::Array(items), schema) => {
                let of = schema.and_then(|s| s.get("items"));
                Some(items.iter().map(|item| Val::json(item, of)).collect())
            }
            _ => None,
        }
    }

    /// Whether it is a list.
    pub fn is_list(&self) -> bool {
        matches!(self, Val::List(_) | Val::Json(Value::Array(_), _))
    }

    /// Whether it is a map.
    pub fn is_map(&self) -> bool {
        matches!(self, Val::Map(_) | Val::Json(Value::Object(_), _))
    }

    /// One item of a list.
    pub fn item(&self, place: usize) -> Option<Val<'a>> {
        match self {
            Val::List(items) => items.get(place).cloned(),
            Val::Json(Value::Array(items), schema) => {
                Some(Val::json(items.get(place)?, schema.and_then(|s| s.get("items"))))
            }
            _ => None,
        }
    }

    /// How much there is to look at, everything inside included: what comparing it takes.
    pub fn extent(&self) -> usize {
        match self {
            Val::Text(text) => text.len() / 8 + 1,
            Val::Bytes(bytes) => bytes.len() / 8 + 1,
            Val::List(items) => items.iter().map(Val::extent).sum::<usize>() + 1,
            Val::Map(entries) => {
                entries
                    .iter()
                    .map(|(k, v)| k.extent() + v.extent())
                    .sum::<usize>()
                    + 1
            }
            Val::Json(value, _) => extent(value),
            _ => 1,
        }
    }

    /// The entries of a map; `None` for anything else.
    pub fn entries(&self) -> Option<Vec<(Val<'a>, Val<'a>)>> {
        match self {
            Val::Map(entries) => Some(entries.to_vec()),
            Val::Json(Value::Object(map), schema) => Some(
                map.iter()
                    .map(|(key, value)| (Val::text(key), Val::json(value, member(*schema, key))))
                    .collect(),
            ),
            _ => None,
        }
    }

    /// The value of a field or key.
    pub fn field(&self, name: &str) -> Option<Val<'a>> {
        match self {
            Val::Json(Value::Object(map), schema) => {
                let (key, value) = match map.get_key_value(name) {
                    Some(found) => found,
                    None => map.get_key_value(&unescape(name))?,
                };
                Some(Val::json(value, member(*schema, key)))
            }
            Val::Map(entries) => {
                let wanted =
                    |(key, _): &&(Val<'a>, Val<'a>)| matches!(key, Val::Text(text) if **text == *name);
                entries.iter().find(wanted).map(|(_, value)| value.clone())
            }
            _ => None,
        }
    }

    /// Number of characters, bytes, items or entries.
    pub fn size(&self) -> Option<usize> {
        match self {
            Val::Text(text) => Some(text.chars().count()),
            Val::Bytes(bytes) => Some(bytes.len()),
            Val::List(items) => Some(items.len()),
            Val::Map(entries) => Some(entries.len()),
            Val::Json(Value::Array(items), _) => Some(items.len()),
            Val::Json(Value::Object(map), _) => Some(map.len()),
            _ => None,
        }
    }

    /// Whether two values are equal; numbers of different types compare by their value.
    pub fn equals(&self, other: &Val<'a>) -> bool {
        if let Some(order) = self.number_order(other) {
            return order == Some(Ordering::Equal);
        }
        match (self, other) {
            (Val::Null, Val::Null) => true,
            (Val::Bool(a), Val::Bool(b)) => a == b,
            (Val::Text(a), Val::Text(b)) | (Val::Url(a), Val::Url(b)) => a == b,
            (Val::Bytes(a), Val::Bytes(b)) => a == b,
            (Val::Duration(a), Val::Duration(b)) => a == b,
            (Val::Time(a), Val::Time(b)) => a == b,
            (Val::Type(a), Val::Type(b)) => a == b,
            (Val::Quantity(a), Val::Quantity(b)) => a == b,
            (Val::Semver(a), Val::Semver(b)) => a == b,
            (Val::Format(a), Val::Format(b)) => a == b,
            (Val::Ip(a), Val::Ip(b)) => a == b,
            (Val::Cidr(a, n), Val::Cidr(b, m)) => a == b && n == m,
            (Val::Optional(a), Val::Optional(b)) => match (a, b) {
                (None, None) => true,
                (Some(a), Some(b)) => a.equals(b),
                _ => false,
            },
            _ => self.parts_equal(other),
        }
    }

    fn parts_equal(&self, other: &Val<'a>) -> bool {
        if let (Some(a), Some(b)) = (self.items(), other.items()) {
            let unordered = self.is_set() || other.is_set();
            return a.len() == b.len()
                && (a.iter().zip(&b).all(|(a, b)| a.equals(b))
                    || (unordered && a.iter().all(|a| b.iter().any(|b| a.equals(b)))));
        }
        if let (Some(a), Some(b)) = (self.entries(), other.entries()) {
            let has =
                |key: &Val<'a>, value: &Val<'a>| b.iter().any(|(k, v)| k.equals(key) && v.equals(value));
            return a.len() == b.len() && a.iter().all(|(key, value)| has(key, value));
        }
        false
    }

    /// Whether it is a list whose order means nothing (`x-kubernetes-list-type` set or map).
    pub fn is_set(&self) -> bool {
        let Val::Json(Value::Array(_), Some(schema)) = self else {
            return false;
        };
        matches!(
            schema.get("x-kubernetes-list-type").and_then(Value::as_str),
            Some("set" | "map")
        )
    }

    /// The order of two numbers; `None` when one is not a number, `Some(None)` for NaN.
    pub fn number_order(&self, other: &Val<'a>) -> Option<Option<Ordering>> {
        let wide = |val: &Val<'a>| match val {
            Val::Int(n) => Some(i128::from(*n)),
            Val::Uint(n) => Some(i128::from(*n)),
            _ => None,
        };
        let double = |val: &Val<'a>| match val {
            Val::Int(n) => Some(*n as f64),
            Val::Uint(n) => Some(*n as f64),
            Val::Double(n) => Some(*n),
            _ => None,
        };
        if let (Some(a), Some(b)) = (wide(self), wide(other)) {
            return Some(Some(a.cmp(&b)));
        }
        Some(double(self)?.partial_cmp(&double(other)?))
    }

    /// The order of two values of one ordered type.
    pub fn order(&self, other: &Val<'a>) -> Option<Ordering> {
        if let Some(order) = self.number_order(other) {
            return order;
        }
        match (self, other) {
            (Val::Bool(a), Val::Bool(b)) => Some(a.cmp(b)),
            (Val::Text(a), Val::Text(b)) => Some(a.cmp(b)),
            (Val::Bytes(a), Val::Bytes(b)) => Some(a.cmp(b)),
            (Val::Duration(a), Val::Duration(b)) => Some(a.cmp(b)),
            (Val::Time(a), Val::Time(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }
}

fn extent(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() / 8 + 1,
        Value::Array(items) => items.iter().map(extent).sum::<usize>() + 1,
        Value::Object(map) => {
            map.iter()
                .map(|(key, value)| key.len() / 8 + 1 + extent(value))
                .sum::<usize>()
                + 1
        }
        _ => 1,
    }
}

/// A text of a format that is a type of its own.
fn formatted(text: &str, format: &str) -> Option<Val<'static>> {
    use base64::Engine as _;
    match format {
        "date-time" => text.parse().ok().map(Val::Time),
        "date" => format!("{text}T00:00:00Z").parse().ok().map(Val::Time),
        "duration" => go::parse_signed(text).map(Val::Duration),
        "byte" => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text).ok()?;
            Some(Val::Bytes(Rc::from(bytes)))
        }
        _ => None,
    }
}
