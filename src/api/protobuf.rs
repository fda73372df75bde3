//! Protobuf bodies → JSON values, driven by the schema's field numbers.
//!
//! A body is `k8s\0` and then `runtime.Unknown { typeMeta, raw, … }`; `raw` is
//! the message. Messages come out as the JSON that the same client would have
//! sent; zero values that Go writes anyway come along and are dropped by the
//! canonical form.

mod encode;
pub(crate) mod wire;

use base64::Engine as _;
use serde_json::{Map, Value};

use crate::schema::{Field, Gvk, Node, Scalar, Schema, TypeRef};
use crate::{go, object};
use wire::{Item, MAGIC, Reader};

pub use encode::encode;

/// Messages may nest this deep.
const DEPTH_MAX: usize = 100;

/// Decodes a body that begins with `k8s\0` into a JSON value of the schema's kind. Of a body that
/// says it is of another kind only that is decoded, for the caller to complain about.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(body: &[u8], schema: &Schema, default: &Gvk) -> Result<Value, String> {
    let envelope = body
        .strip_prefix(MAGIC)
        .ok_or("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")?;
    let (mut api_version, mut kind, mut raw, mut media) =
        (String::new(), String::new(), &[][..], String::new());
    for item in Reader::new(envelope) {
        match item? {
            (1, Item::Bytes(bytes)) => {
                for item in Reader::new(bytes) {
                    match item? {
                        (1, Item::Bytes(text)) => api_version = lossy(text),
                        (2, Item::Bytes(text)) => kind = lossy(text),
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(bytes)) => raw = bytes,
            (4, Item::Bytes(text)) => media = lossy(text),
            _ => {}
        }
    }
    let mut value = if !kind.is_empty() && kind != default.kind {
        Value::Object(Map::new())
    } else if media == "application/json" {
        serde_json::from_slice(raw).map_err(|error| error.to_string())?
    } else {
        message(raw, &schema.root, DEPTH_MAX)?
    };
    if !api_version.is_empty() {
        object::set(&mut value, &["apiVersion"], api_version);
    }
    if !kind.is_empty() {
        object::set(&mut value, &["kind"], kind);
    }
    Ok(value)
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn message(bytes: &[u8], of: &TypeRef, depth: usize) -> Result<Value, String> {
    let mut out = Map::new();
    message_into(&mut out, bytes, of, depth)?;
    Ok(Value::Object(out))
}

fn message_into(
    out: &mut Map<String, Value>,
    bytes: &[u8],
    of: &TypeRef,
    depth: usize,
) -> Result<(), String> {
    let depth = depth.checked_sub(1).ok_or("exceeded max depth")?;
    let made = of.get();
    for item in Reader::new(bytes) {
        let (number, item) = item?;
        if let Some((_, inlined)) = made.inlined.iter().find(|(n, _)| *n == number) {
            message_into(out, item.bytes()?, inlined, depth)?;
        } else if let Some(field) = made.numbered(number) {
            if made.name == "JSONSchemaProps" && is_either(&field.name) {
                either(out, field, item, of, depth)?;
            } else {
                put(out, field, item, depth)?;
            }
        }
    }
    Ok(())
}

fn put(out: &mut Map<String, Value>, field: &Field, item: Item<'_>, depth: usize) -> Result<(), String> {
    let name = field.name.as_ref();
    match &field.node {
        Node::List(inner) => {
            let Value::Array(list) = out.entry(name).or_insert_with(|| Value::Array(Vec::new())) else {
                return Ok(());
            };
            match (&**inner, item) {
                // Numbers may come packed, several in one item.
                (Node::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Bool), Item::Bytes(bytes)) => {
                    for number in wire::packed(bytes) {
                        list.push(value(inner, Item::Varint(number?), depth)?);
                    }
                }
                (_, item) => list.push(value(inner, item, depth)?),
            }
        }
        Node::Map(inner) => {
            let (key, held) = pair(item.bytes()?, inner, depth)?;
            object::map_mut(out.entry(name).or_insert(Value::Null), &[]).insert(key, held);
        }
        // A message that comes twice is merged, as protobuf asks for.
        Node::Struct(inner) => {
            let held = object::map_mut(out.entry(name).or_insert(Value::Null), &[]);
            message_into(held, item.bytes()?, inner, depth)?;
        }
        node => drop(out.insert(name.to_owned(), value(node, item, depth)?)),
    }
    Ok(())
}

/// Key and value of a map entry.
fn pair(bytes: &[u8], node: &Node, depth: usize) -> Result<(String, Value), String> {
    let (mut key, mut held) = (String::new(), Value::Null);
    for item in Reader::new(bytes) {
        match item? {
            (1, item) => key = lossy(item.bytes()?),
            (2, item) => held = value(node, item, depth)?,
            _ => {}
        }
    }
    Ok((key, held))
}

fn value(node: &Node, item: Item<'_>, depth: usize) -> Result<Value, String> {
    match node {
        Node::Any => json_of(item.bytes()?),
        Node::Struct(of) => message(item.bytes()?, of, depth),
        Node::Scalar(scalar) => scalar_of(*scalar, item),
        // A list inside a map or list travels in a message of its own, as field 1.
        Node::List(inner) => {
            let depth = depth.checked_sub(1).ok_or("exceeded max depth")?;
            let items = Reader::new(item.bytes()?).filter_map(|item| match item {
                Ok((1, item)) => Some(value(inner, item, depth)),
                Ok(_) => None,
                Err(error) => Some(Err(error)),
            });
            items.collect::<Result<Vec<_>, _>>().map(Value::Array)
        }
        Node::Map(inner) => {
            let depth = depth.checked_sub(1).ok_or("exceeded max depth")?;
            let mut map = Map::new();
            for entry in Reader::new(item.bytes()?) {
                let (key, held) = pair(entry?.1.bytes()?, inner, depth)?;
                map.insert(key, held);
            }
            Ok(Value::Object(map))
        }
    }
}

/// `RawExtension`, `JSON` and `FieldsV1`: field 1 is JSON text.
fn json_of(bytes: &[u8]) -> Result<Value, String> {
    match Fields::of(bytes)?.bytes(1) {
        None | Some([]) => Ok(Value::Null),
        Some(text) => serde_json::from_slice(text).map_err(|error| error.to_string()),
    }
}

fn scalar_of(scalar: Scalar, item: Item<'_>) -> Result<Value, String> {
    Ok(match scalar {
        Scalar::String => lossy(item.bytes()?).into(),
        Scalar::Bool => (item.varint()? != 0).into(),
        // Negative numbers travel as 64 bits; the low 32 are the number.
        Scalar::Int32 => (item.varint()? as u32).cast_signed().into(),
        Scalar::Int64 => item.varint()?.cast_signed().into(),
        Scalar::Double => Value::from(f64::from_bits(item.fixed64()?)),
        Scalar::Bytes => base64::engine::general_purpose::STANDARD
            .encode(item.bytes()?)
            .into(),
        Scalar::FieldsV1 => json_of(item.bytes()?)?,
        Scalar::Quantity => lossy(Fields::of(item.bytes()?)?.bytes(1).unwrap_or(b"0")).into(),
        Scalar::Duration => {
            let nanos = Fields::of(item.bytes()?)?.int(1);
            go::nanoseconds(nanos).into()
        }
        Scalar::IntOrString => {
            let fields = Fields::of(item.bytes()?)?;
            match fields.int(1) {
                0 => (fields.int(2) as i32).into(),
                _ => lossy(fields.bytes(3).unwrap_or_default()).into(),
            }
        }
        Scalar::Time | Scalar::MicroTime => time(scalar, item.bytes()?)?,
    })
}

fn time(scalar: Scalar, bytes: &[u8]) -> Result<Value, String> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let fields = Fields::of(bytes)?;
    let nanos = i32::try_from(fields.int(2)).unwrap_or_default();
    let at = jiff::Timestamp::new(fields.int(1), nanos).map_err(|error| error.to_string())?;
    Ok(match scalar {
        Scalar::MicroTime => object::micro_time_text(at),
        _ => object::time_text(at),
    }
    .into())
}

/// The fields of a small message, the last of each number.
struct Fields<'a>(Vec<(u32, Item<'a>)>);

impl<'a> Fields<'a> {
    fn of(bytes: &'a [u8]) -> Result<Self, String> {
        Reader::new(bytes).collect::<Result<_, _>>().map(Self)
    }

    fn find(&self, number: u32) -> Option<&Item<'a>> {
        self.0
            .iter()
            .rev()
            .find(|(n, _)| *n == number)
            .map(|(_, item)| item)
    }

    fn int(&self, number: u32) -> i64 {
        self.find(number)
            .and_then(|item| item.varint().ok())
            .map_or(0, u64::cast_signed)
    }

    fn bytes(&self, number: u32) -> Option<&'a [u8]> {
        self.find(number).and_then(|item| item.bytes().ok())
    }
}

/// Fields of `JSONSchemaProps` that hold one of two things.
fn is_either(name: &str) -> bool {
    matches!(
        name,
        "items" | "additionalProperties" | "additionalItems" | "dependencies"
    )
}

/// `JSONSchemaPropsOrArray`, `…OrBool` and (in a map) `…OrStringArray`.
fn either(
    out: &mut Map<String, Value>,
    field: &Field,
    item: Item<'_>,
    schema: &TypeRef,
    depth: usize,
) -> Result<(), String> {
    let one = |bytes: &[u8]| message(bytes, schema, depth);
    let name = field.name.as_ref();
    if name == "dependencies" {
        let fields = Fields::of(item.bytes()?)?;
        let key = lossy(fields.bytes(1).unwrap_or_default());
        let inner = Fields::of(fields.bytes(2).unwrap_or_default())?;
        let held = match inner.bytes(1) {
            Some(bytes) => one(bytes)?,
            None => inner
                .0
                .iter()
                .filter(|(n, _)| *n == 2)
                .map(|(_, i)| Ok(lossy(i.bytes()?).into()))
                .collect::<Result<Vec<Value>, String>>()?
                .into(),
        };
        object::map_mut(out.entry(name).or_insert(Value::Null), &[]).insert(key, held);
        return Ok(());
    }
    let fields = Fields::of(item.bytes()?)?;
    let held = if name == "items" {
        match fields.bytes(1) {
            Some(bytes) => one(bytes)?,
            None => fields
                .0
                .iter()
                .filter(|(n, _)| *n == 2)
                .map(|(_, i)| one(i.bytes()?))
                .collect::<Result<Vec<Value>, String>>()?
                .into(),
        }
    } else {
        match fields.bytes(2) {
            Some(bytes) => one(bytes)?,
            None => (fields.int(1) != 0).into(),
        }
    };
    out.insert(name.to_owned(), held);
    Ok(())
}

#[cfg(test)]
mod tests;
