//! Defaults: each must itself be what its schema asks for (apiextensions `defaulting.ValidateDefaults`).

use serde_json::Value;

use super::super::rules::Rules;
use super::super::{check, embedded, patterns, shape};
use super::parts::{inner, properties};
use crate::kind::Findings;
use crate::status::FieldError;
use crate::value::{Field, flag};

/// What is wrong with the defaults of a whole schema. Those below `additionalProperties` are not followed, since they
/// are never filled in.
pub fn check(schema: &Field, errors: &mut Vec<FieldError>) {
    if let Some(value) = schema.value.get("default").filter(|value| !value.is_null()) {
        errors.extend(default(
            &Field::new(value, schema.path_of("default")),
            schema.value,
        ));
    }
    if let Some(items) = inner(schema, "items") {
        check(&items, errors);
    }
    for (_, member) in properties(schema) {
        check(&member, errors);
    }
}

fn default(default: &Field, schema: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let embedded = flag(schema, "x-kubernetes-embedded-resource");
    if shape::prunes(default.value, schema, embedded) {
        errors.push(default.invalid("must not have unknown fields"));
    }
    let wrong = embedded::check(default, schema);
    if !wrong.is_empty() {
        errors.extend(wrong);
        return errors;
    }
    let patterns = patterns::patterns(schema);
    let wrong = check::value(&default.path, default.value, schema, &patterns);
    if !wrong.is_empty() {
        errors.extend(wrong);
        return errors;
    }
    errors.extend(rules(default, schema));
    errors
}

/// What rules say of a default, as it comes to be, and as it stays.
fn rules(default: &Field, schema: &Value) -> Vec<FieldError> {
    let rules = Rules::of(schema);
    for old in [Some(default.value), None] {
        let mut found = Findings::default();
        rules.check(default, old, schema, &mut found);
        if !found.errors.is_empty() || rules.is_empty() {
            return found.errors;
        }
    }
    Vec::new()
}
