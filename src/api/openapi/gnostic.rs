//! OpenAPI documents in gnostic's protobuf forms. What both have in common; field numbers of messages are those of the
//! published `OpenAPIv2.proto` and `OpenAPIv3.proto`.

mod v2;
mod v3;

use serde_json::{Map, Value};

use crate::protobuf::wire::Writer;

pub(super) use v2::encode as v2;
pub(super) use v3::encode as v3;

fn made(write: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    write(&mut writer);
    writer
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn texts(out: &mut Writer, number: u32, value: &Value, key: &str) {
    for item in items(value, key) {
        out.text(number, item.as_str().unwrap_or_default());
    }
}

fn flag(value: &Value, key: &str) -> u64 {
    u64::from(value.get(key).and_then(Value::as_bool).unwrap_or_default())
}

/// The operations of a path, each in the field of its method.
fn operations(out: &mut Writer, methods: &[(u32, &str)], path: &Value, write: fn(&Value) -> Writer) {
    for (number, method) in methods {
        if let Some(operation) = path.get(method) {
            out.message(*number, &write(operation));
        }
    }
}

/// A map as repeated pairs of name (1) and value (2), in field `number`.
fn named(map: &Value, number: u32, write: fn(&Value) -> Writer) -> Writer {
    made(|out| {
        for (name, value) in map.as_object().into_iter().flatten() {
            out.message(number, &pair(name, &write(value)));
        }
    })
}

fn pair(name: &str, value: &Writer) -> Writer {
    made(|pair| {
        pair.text(1, name);
        pair.message(2, value);
    })
}

/// Any value travels as YAML text, and JSON is YAML.
fn any(value: &Value) -> Writer {
    made(|any| any.text(2, &value.to_string()))
}

fn extensions(out: &mut Writer, number: u32, value: &Value) {
    let empty = Map::new();
    let map = value.as_object().unwrap_or(&empty);
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        out.message(number, &pair(name, &any(value)));
    }
}
