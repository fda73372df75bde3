//! Small helpers for the cells of tables.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::duration;
use crate::value::{list, text};

/// The row of a kind that has no columns of its own: name and creation time.
pub fn name_and_creation(object: &Value, _now: Timestamp) -> Vec<Value> {
    vec![name(object), json!(text(object, "metadata.creationTimestamp"))]
}

/// The object's name.
pub fn name(object: &Value) -> Value {
    json!(text(object, "metadata.name"))
}

/// The object's age, such as `5m3s`.
pub fn age(object: &Value, now: Timestamp) -> Value {
    json!(since(text(object, "metadata.creationTimestamp"), now))
}

/// How long ago an RFC 3339 time was, such as `5m3s`; `<unknown>` when absent.
pub fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(then) => duration::human(now.duration_since(then)),
        Err(_) => "<unknown>".to_owned(),
    }
}

/// The text, or `<none>` for an empty one.
pub fn or_none(text: impl Into<String>) -> String {
    let text = text.into();
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    }
}

/// Names and images of a pod template's containers, comma-separated.
pub fn containers_and_images(object: &Value, spec: &str) -> (String, String) {
    let containers = list(crate::value::get(object, spec), "containers");
    let join = |key: &str| {
        containers
            .iter()
            .map(|c| text(c, key))
            .collect::<Vec<_>>()
            .join(",")
    };
    (join("name"), join("image"))
}

/// `a=1,b=2`, or `<none>`: a plain map of labels as kubectl prints it.
pub fn labels(map: &Value) -> String {
    let mut pairs: Vec<String> = map
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")))
        .collect();
    pairs.sort();
    or_none(pairs.join(","))
}
