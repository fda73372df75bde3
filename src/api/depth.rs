//! How deep objects may nest. Pure.
//!
//! Everybody who reads an object here does it by recursion, and `serde_json` refuses what is deeper than 128 levels:
//! an object that is stored must be one that can be read, also inside a watch event, a list, or as the fields that
//! somebody manages, which nest like the object and a few levels deeper.

use serde_json::Value;

/// Containers in a document that is sent may nest this deep.
pub const SENT_MAX: usize = 110;
/// And in an object that is stored, what the server noted in it included.
pub const STORED_MAX: usize = 120;

/// What is said of deeper ones.
pub const TOO_DEEP: &str = "exceeded max depth";

/// Whether a value nests at most `max` levels deep. Never goes deeper itself.
pub fn within(value: &Value, max: usize) -> bool {
    match value {
        Value::Array(items) => max > 0 && items.iter().all(|item| within(item, max - 1)),
        Value::Object(map) => max > 0 && map.values().all(|item| within(item, max - 1)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn levels_are_counted() {
        assert!(within(&json!(1), 0));
        assert!(!within(&json!([]), 0));
        assert!(within(&json!({"a": [1]}), 2));
        assert!(!within(&json!({"a": [1], "b": [[]]}), 2));
    }
}
