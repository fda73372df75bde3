//! Kubernetes' directives: keys of a patch that are no fields.

use serde_json::{Map, Value};

use crate::status::Status;

pub(super) const DIRECTIVE: &str = "$patch";
pub(super) const RETAIN_KEYS: &str = "$retainKeys";
pub(super) const DELETE_FROM: &str = "$deleteFromPrimitiveList/";
pub(super) const SET_ORDER: &str = "$setElementOrder/";
pub(super) const BAD_PRIMITIVE_LIST: &str = "invalid patch format of primitive list";
pub(super) const BAD_RETAIN_KEYS: &str = "invalid patch format of retainKeys";

/// `$retainKeys`: what it does not name goes; what the patch sets must be named.
pub(super) fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
) -> Result<(), Status> {
    let Some(list) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let bad = || Status::bad_request(BAD_RETAIN_KEYS);
    let retained = list.as_array().ok_or_else(bad)?;
    let named = |key: &str| retained.iter().any(|k| k.as_str() == Some(key));
    if patch
        .iter()
        .any(|(key, value)| !value.is_null() && !key.starts_with('$') && !named(key))
    {
        return Err(bad());
    }
    original.retain(|key, _| named(key));
    Ok(())
}

pub(super) fn delete_from(original: &mut Map<String, Value>, list: &str, gone: &Value) -> Result<(), Status> {
    let gone = gone
        .as_array()
        .ok_or_else(|| Status::bad_request(BAD_PRIMITIVE_LIST))?;
    if let Some(Value::Array(items)) = original.get_mut(list) {
        items.retain(|item| !gone.contains(item));
    }
    Ok(())
}

pub(super) fn directive_of(item: &Value) -> &str {
    item.get(DIRECTIVE).and_then(Value::as_str).unwrap_or_default()
}

/// A patch's value where the object had none: nulls and directives mean nothing there.
pub(super) fn without_directives(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(without_directives_map(map)),
        Value::Array(items) => Value::Array(
            items
                .into_iter()
                .filter(|item| directive_of(item) != "delete")
                .map(without_directives)
                // An item that held nothing but a directive is none.
                .collect(),
        ),
        other => other,
    }
}

pub(super) fn without_directives_map(map: Map<String, Value>) -> Map<String, Value> {
    let meaning_nothing = |key: &str, value: &Value| {
        value.is_null()
            || key == DIRECTIVE
            || key == RETAIN_KEYS
            || key.starts_with(SET_ORDER)
            || key.starts_with(DELETE_FROM)
    };
    map.into_iter()
        .filter(|(key, value)| !meaning_nothing(key, value))
        .map(|(key, value)| (key, without_directives(value)))
        .collect()
}
