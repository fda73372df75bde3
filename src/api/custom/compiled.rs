//! What is made of a version's schema when it is first needed.

use std::collections::HashMap;

use serde_json::Value;

use super::rules::Rules;
use super::{check, shape};
use crate::cel::strings_pattern;
use crate::schema::{Gvk, SchemaRef};
use crate::status::FieldError;

/// A schema, ready for use.
pub struct Compiled {
    pub schema: Value,
    pub shape: SchemaRef,
    /// Whether there is any default.
    pub has_defaults: bool,
    patterns: Patterns,
    rules: Rules,
}

/// The compiled patterns of a schema.
pub type Patterns = HashMap<String, regex::Regex>;

impl Compiled {
    pub fn new(schema: Value, gvk: Gvk) -> Self {
        let shape = shape::of(&schema, gvk);
        let mut patterns = Patterns::new();
        gather(&schema, &mut patterns);
        let rules = Rules::of(&schema);
        let has_defaults = mentions(&schema, "default");
        Self {
            schema,
            shape,
            has_defaults,
            patterns,
            rules,
        }
    }

    /// What is wrong with an object; rules in CEL are asked only of one that fits its schema.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let errors = check::object(object, old, &self.schema, &self.patterns);
        if errors.is_empty() {
            return self.rules.check(object, old, &self.schema);
        }
        if self.rules.is_empty() {
            return errors;
        }
        let more = "some validation rules were not checked because the object was invalid; correct the existing \
                    errors to complete validation";
        let mut errors = errors;
        errors.push(FieldError::invalid("<nil>", Value::Null, more));
        errors
    }
}

/// Whether a schema, or one inside it, has that key.
fn mentions(schema: &Value, key: &str) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(key) || map.values().any(|inner| mentions(inner, key)),
        Value::Array(items) => items.iter().any(|inner| mentions(inner, key)),
        _ => false,
    }
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
