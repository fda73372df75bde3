//! JSON values → protobuf bodies, the way back of `decode`.

use base64::Engine as _;
use serde_json::Value;

use super::wire::{MAGIC, Writer};
use crate::object;
use crate::schema::{Node, Scalar, Schema, TypeRef};

/// Encodes an object of the schema's kind as Kubernetes' clients do: `k8s\0` and an envelope that names the
/// kind. Fields that have no number (or are not in the schema) are left out.
pub fn encode(value: &Value, schema: &Schema) -> Vec<u8> {
    let mut kind = Writer::default();
    kind.text(1, object::api_version(value));
    kind.text(2, object::kind(value));
    let mut envelope = Writer::default();
    envelope.message(1, &kind);
    envelope.message(2, &message(value, &schema.root));
    let mut out = MAGIC.to_vec();
    out.extend(envelope.finish());
    out
}

fn message(value: &Value, of: &TypeRef) -> Writer {
    let made = of.get();
    let mut out = Writer::default();
    for field in made.fields.iter().filter(|field| field.number > 0) {
        let Some(held) = value.get(field.name.as_ref()).filter(|held| !held.is_null()) else {
            continue;
        };
        put(
            &mut out,
            field.number,
            held,
            &field.node,
            made.name == "JSONSchemaProps",
            of,
        );
    }
    for (number, inlined) in &made.inlined {
        out.message(*number, &message(value, inlined));
    }
    out
}

fn put(out: &mut Writer, number: u32, value: &Value, node: &Node, schema_props: bool, of: &TypeRef) {
    match (node, value) {
        // `JSONSchemaPropsOrBool` and `…OrArray`; everything else untyped is JSON text.
        (Node::Any, Value::Object(map)) if schema_props && map.contains_key("type") => {
            let mut either = Writer::default();
            let place = if number == 24 { 1 } else { 2 };
            if place == 2 {
                either.varint(1, 1);
            }
            either.message(place, &message(value, of));
            out.message(number, &either);
        }
        (Node::Any, Value::Bool(flag)) if schema_props && number != 8 => {
            let mut either = Writer::default();
            either.varint(1, u64::from(*flag));
            out.message(number, &either);
        }
        (Node::List(item), Value::Array(items)) => {
            for value in items {
                put(out, number, value, item, schema_props, of);
            }
        }
        (Node::Map(inner), Value::Object(map)) => {
            for (key, value) in map {
                let mut entry = Writer::default();
                entry.bytes(1, key.as_bytes());
                put(&mut entry, 2, value, inner, schema_props, of);
                out.message(number, &entry);
            }
        }
        (Node::Struct(inner), value) => out.message(number, &message(value, inner)),
        (Node::Scalar(scalar), value) => self::scalar(out, number, value, *scalar),
        (Node::Any, value) => {
            let mut raw = Writer::default();
            raw.bytes(1, value.to_string().as_bytes());
            out.message(number, &raw);
        }
        _ => {}
    }
}

fn scalar(out: &mut Writer, number: u32, value: &Value, scalar: Scalar) {
    let text = value.as_str().unwrap_or_default();
    let int = value.as_i64().unwrap_or_default();
    let mut inner = Writer::default();
    match scalar {
        Scalar::String => return out.bytes(number, text.as_bytes()),
        Scalar::Bool => return out.number(number, u64::from(value == true)),
        Scalar::Int32 | Scalar::Int64 => return out.number(number, int.cast_unsigned()),
        Scalar::Double => return out.double(number, value.as_f64().unwrap_or_default()),
        Scalar::Bytes => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(text);
            return out.bytes(number, &bytes.unwrap_or_default());
        }
        Scalar::FieldsV1 => inner.bytes(1, value.to_string().as_bytes()),
        Scalar::Quantity if text.is_empty() => inner.text(1, &value.to_string()),
        Scalar::Quantity => inner.text(1, text),
        Scalar::IntOrString => {
            inner.varint(1, u64::from(value.is_string()));
            inner.varint(2, int.cast_unsigned());
            inner.text(3, text);
        }
        Scalar::Duration => {
            let span = crate::go::parse_signed(text).unwrap_or_default();
            let nanos = i64::try_from(span.as_nanos()).unwrap_or_default();
            inner.varint(1, nanos.cast_unsigned());
        }
        Scalar::Time | Scalar::MicroTime => {
            let at: jiff::Timestamp = text.parse().unwrap_or_default();
            inner.varint(1, at.as_second().cast_unsigned());
            inner.varint(2, i64::from(at.subsec_nanosecond()).cast_unsigned());
        }
    }
    out.message(number, &inner);
}
