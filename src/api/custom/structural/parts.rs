//! What schemas consist of.

use serde_json::{Value, json};

use crate::value::{Field, entries};

/// Whether a keyword's value is that of a schema without it.
pub fn is_zero(value: &Value) -> bool {
    matches!(value, Value::Null | Value::Bool(false)) || [json!(""), json!([]), json!({})].contains(value)
}

/// Whether a keyword is there and means something.
pub fn is_there(schema: &Field, key: &str) -> bool {
    schema.value.get(key).is_some_and(|value| !is_zero(value))
}

/// The schemas of the members of an object.
pub fn properties<'v>(schema: &Field<'v>) -> Vec<(&'v str, Field<'v>)> {
    let at = schema.path_of("properties");
    entries(schema.value, "properties")
        .map(|(name, value)| (name.as_str(), Field::new(value, format!("{at}[{name}]"))))
        .collect()
}

/// The schema of one member; of null when there is none.
pub fn property<'v>(schema: &Field<'v>, name: &str) -> Field<'v> {
    let held = schema.value.get("properties").and_then(|all| all.get(name));
    let path = format!("{}[{name}]", schema.path_of("properties"));
    Field::new(held.unwrap_or(&Value::Null), path)
}

/// The schema below a keyword, if it is one.
pub fn inner<'v>(schema: &Field<'v>, key: &str) -> Option<Field<'v>> {
    Some(schema.get(key)).filter(|below| below.value.is_object())
}

/// The schemas that say more about the same value: `not` and the parts of `allOf`, `anyOf` and `oneOf`.
pub fn junctors<'v>(schema: &Field<'v>) -> Vec<Field<'v>> {
    let parts = ["anyOf", "allOf", "oneOf"].map(|key| schema.items(key));
    parts.into_iter().flatten().chain(inner(schema, "not")).collect()
}
