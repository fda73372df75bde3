//! What a definition's schema must be like: structural, so that decoding, pruning and defaulting are well defined.
//!
//! ```text
//! invariants ─ completeness ─▶ defaults ─▶ keywords ─▶ rules in CEL
//! ```
//!
//! Each step asks only what makes sense if the one before it found nothing, but keywords, which are always looked at.

mod completeness;
mod defaults;
mod invariants;
mod keywords;
mod parts;

use super::rule_check;
use crate::status::FieldError;
use crate::value::{Field, flag};
use parts::is_zero;

/// What may stand at the root of a schema whose status is written apart, as Kubernetes' text names it, and as schemas do.
const AT_ROOT: [(&str, &str); 22] = [
    ("Description", "description"),
    ("Type", "type"),
    ("Format", "format"),
    ("Title", "title"),
    ("Maximum", "maximum"),
    ("ExclusiveMaximum", "exclusiveMaximum"),
    ("Minimum", "minimum"),
    ("ExclusiveMinimum", "exclusiveMinimum"),
    ("MaxLength", "maxLength"),
    ("MinLength", "minLength"),
    ("Pattern", "pattern"),
    ("MaxItems", "maxItems"),
    ("MinItems", "minItems"),
    ("UniqueItems", "uniqueItems"),
    ("MultipleOf", "multipleOf"),
    ("Required", "required"),
    ("Items", "items"),
    ("Properties", "properties"),
    ("ExternalDocs", "externalDocs"),
    ("Example", "example"),
    ("XPreserveUnknownFields", "x-kubernetes-preserve-unknown-fields"),
    ("XValidations", "x-kubernetes-validations"),
];

/// What is wrong with an `openAPIV3Schema`; `has_status` says that status is written apart.
pub fn validate(schema: &Field, has_status: bool) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if has_status {
        root(schema, &mut errors);
    }
    if flag(schema.value, "nullable") {
        let nullable = schema.get("nullable");
        errors.push(nullable.forbidden("nullable cannot be true at the root"));
    }
    if !keywords::is_unsupported(schema.value) {
        let mut found = Vec::new();
        invariants::check(schema, &mut found);
        completeness::check(schema, &mut found);
        found.sort_by_cached_key(FieldError::to_string);
        if found.is_empty() {
            defaults::check(schema, &mut found);
        }
        errors.extend(found);
    }
    keywords::check(schema, &mut errors);
    // What rules say of a schema that is wrong itself would help nobody.
    if errors.is_empty() {
        rule_check::rules(schema, &mut errors);
    }
    errors
}

/// Of a schema whose status is judged by itself, the root may hold only what loses nothing by that.
fn root(schema: &Field, errors: &mut Vec<FieldError>) {
    let kind = schema.get("type");
    if !kind.is_blank() && kind.text() != "object" {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        errors.push(kind.invalid(why));
        return;
    }
    let keys = schema.value.as_object().into_iter().flatten();
    let mut set = keys.filter(|(_, value)| !is_zero(value));
    if set.any(|(key, _)| !AT_ROOT.iter().any(|(_, allowed)| allowed == key)) {
        let names: Vec<&str> = AT_ROOT.iter().map(|(name, _)| *name).collect();
        errors.push(schema.invalid(format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        )));
    }
}
