//! Single values in the schemas of built-in kinds: which are possible, and which one an absent field has.

use serde_json::{Map, Value, json};

use crate::schema::{Field, Node, values};

/// Says which values a field, or each item of a list, may have.
pub(super) fn enumerate(property: &mut Value, type_name: &str, field: &Field) {
    let Some(Value::Array(possible)) = values::possible(type_name, field) else {
        return;
    };
    if let Some(inner) = inner(property) {
        inner["enum"] = possible.into();
        return;
    }
    let listed: String = possible.iter().map(|value| format!("\n - `{value}`")).collect();
    let described = property["description"].as_str().unwrap_or_default();
    property["description"] = format!("{described}\n\nPossible enum values:{listed}").into();
    property["enum"] = possible.into();
}

/// Says which value an absent field stands for, and an absent item.
pub(super) fn fill_in(property: &mut Value, type_name: &str, field: &Field) {
    if let Some(default) = values::standard(type_name, field) {
        property["default"] = default;
    }
    let item = match &field.node {
        Node::List(item) | Node::Map(item) => values::zero(item),
        _ => None,
    };
    if let (Some(inner), Some(default)) = (inner(property), item) {
        inner["default"] = default;
    }
}

/// In v3 nothing may stand beside a reference, so it goes into `allOf`.
pub(super) fn wrap_references(property: &mut Value) {
    if let Some(inner) = inner(property) {
        wrap_references(inner);
    }
    let Value::Object(map) = property else { return };
    if map.len() > 1
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
}

/// The schema of a list's items or of a map's values.
fn inner(property: &mut Value) -> Option<&mut Value> {
    let map: &mut Map<String, Value> = property.as_object_mut()?;
    let key = ["items", "additionalProperties"]
        .into_iter()
        .find(|key| map.get(*key).is_some_and(Value::is_object))?;
    map.get_mut(key)
}
