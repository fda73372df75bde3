//! What both forms are made of.

use serde_json::{Map, Value};

use crate::protobuf::wire::Writer;

pub fn made(write: impl FnOnce(&mut Writer)) -> Writer {
    let mut writer = Writer::default();
    write(&mut writer);
    writer
}

pub fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

pub fn items<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

pub fn texts(out: &mut Writer, number: u32, value: &Value, key: &str) {
    for item in items(value, key) {
        out.text(number, item.as_str().unwrap_or_default());
    }
}

pub fn flag(value: &Value, key: &str) -> u64 {
    u64::from(value.get(key).and_then(Value::as_bool).unwrap_or_default())
}

/// The operations of a path, each in the field of its method.
pub fn operations(out: &mut Writer, methods: &[(u32, &str)], path: &Value, write: fn(&Value) -> Writer) {
    for (number, method) in methods {
        if let Some(operation) = path.get(method) {
            out.message(*number, &write(operation));
        }
    }
}

/// A map as repeated pairs of name (1) and value (2), in field `number`.
pub fn named(map: &Value, number: u32, write: fn(&Value) -> Writer) -> Writer {
    made(|out| {
        for (name, value) in map.as_object().into_iter().flatten() {
            out.message(number, &pair(name, &write(value)));
        }
    })
}

pub fn pair(name: &str, value: &Writer) -> Writer {
    made(|pair| {
        pair.text(1, name);
        pair.message(2, value);
    })
}

/// Any value travels as YAML text, and JSON is YAML.
pub fn any(value: &Value) -> Writer {
    made(|any| any.text(2, &value.to_string()))
}

pub fn extensions(out: &mut Writer, number: u32, value: &Value) {
    let empty = Map::new();
    let map = value.as_object().unwrap_or(&empty);
    for (name, value) in map.iter().filter(|(name, _)| name.starts_with("x-")) {
        out.message(number, &pair(name, &any(value)));
    }
}
