//! What is made of a version's schema when it is first needed.

use serde_json::Value;

use super::patterns::{Patterns, patterns};
use super::rules::Rules;
use super::{check, embedded, scaled, shape, unique};
use crate::kind::{Findings, ScalePaths};
use crate::schema::{Gvk, SchemaRef};
use crate::status::{FieldError, FieldErrorKind};
use crate::value::Field;

/// A schema, ready for use.
pub struct Compiled {
    pub schema: Value,
    pub shape: SchemaRef,
    /// Whether there is any default.
    pub has_defaults: bool,
    patterns: Patterns,
    rules: Rules,
}

impl Compiled {
    pub fn new(schema: Value, gvk: Gvk) -> Self {
        let shape = shape::of(&schema, gvk);
        let patterns = patterns(&schema);
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

    /// What is wrong with an object, beyond what was `found` already.
    pub fn check(
        &self,
        object: &Value,
        old: Option<&Value>,
        scale: Option<&ScalePaths>,
        found: Findings,
    ) -> Findings {
        let mut errors = check::object(object, old, &self.schema, &self.patterns);
        if let Some(scale) = scale {
            errors.extend(scaled::spec(object, scale));
            errors.extend(scaled::status(object, scale));
        }
        errors.extend(embedded::check(&Field::new(object, ""), &self.schema));
        self.further(object, old, errors, found)
    }

    /// The same of an object of which only the status is written.
    pub fn check_status(
        &self,
        object: &Value,
        old: &Value,
        scale: Option<&ScalePaths>,
        found: Findings,
    ) -> Findings {
        let mut errors = check::status(object, Some(old), &self.schema, &self.patterns);
        errors.extend(scale.into_iter().flat_map(|scale| scaled::status(object, scale)));
        self.further(object, Some(old), errors, found)
    }

    /// What is looked at last: items that repeat others, if none did before, and rules in CEL, if the object has the
    /// members and types that they count on.
    fn further(
        &self,
        object: &Value,
        old: Option<&Value>,
        errors: Vec<FieldError>,
        mut found: Findings,
    ) -> Findings {
        found.errors.extend(errors);
        let repeated = |object: &Value| {
            let mut errors = Vec::new();
            unique::check("", object, &self.schema, &mut errors);
            errors
        };
        if old.is_none_or(|old| repeated(old).is_empty()) {
            found.errors.extend(repeated(object));
        }
        if self.rules.is_empty() {
            return found;
        }
        if found.errors.iter().any(blocks_rules) {
            let more = "some validation rules were not checked because the object was invalid; correct the existing \
                        errors to complete validation";
            found.errors.push(FieldError::invalid("<nil>", Value::Null, more));
            return found;
        }
        self.rules
            .check(&Field::new(object, ""), old, &self.schema, &mut found);
        found
    }
}

/// Whether rules may make no sense of an object with that error.
fn blocks_rules(error: &FieldError) -> bool {
    matches!(
        error.kind,
        FieldErrorKind::NotSupported
            | FieldErrorKind::Required
            | FieldErrorKind::TooLong
            | FieldErrorKind::TooMany
            | FieldErrorKind::TypeInvalid
    )
}

/// Whether a schema, or one inside it, has that key.
fn mentions(schema: &Value, key: &str) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(key) || map.values().any(|inner| mentions(inner, key)),
        Value::Array(items) => items.iter().any(|inner| mentions(inner, key)),
        _ => false,
    }
}
