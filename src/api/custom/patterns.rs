//! The patterns of a schema, compiled once.

use std::collections::HashMap;

use serde_json::Value;

use crate::cel::strings_pattern;

/// By their text.
pub type Patterns = HashMap<String, regex::Regex>;

/// The patterns of a schema, compiled; those that do not compile were refused with the definition.
pub fn patterns(schema: &Value) -> Patterns {
    let mut patterns = Patterns::new();
    gather(schema, &mut patterns);
    patterns
}

fn gather(schema: &Value, patterns: &mut Patterns) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::String(pattern)) = map.get("pattern")
                && let Ok(regex) = strings_pattern(pattern)
            {
                patterns.insert(pattern.clone(), regex);
            }
            map.values().for_each(|inner| gather(inner, patterns));
        }
        Value::Array(items) => items.iter().for_each(|inner| gather(inner, patterns)),
        _ => {}
    }
}
