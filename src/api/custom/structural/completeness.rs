//! Whatever `allOf` and its like say of a member or item, the schema itself must know (apiextensions
//! `validateStructuralCompleteness`).

use super::parts::{inner, junctors, properties, property};
use crate::status::FieldError;
use crate::value::Field;

/// What is spoken of at the root without being defined there.
pub fn check(schema: &Field, errors: &mut Vec<FieldError>) {
    for part in junctors(schema) {
        known(&part, schema, errors);
    }
}

/// Whether all that `part` speaks of is in `schema`, which is of the same value.
fn known(part: &Field, schema: &Field, errors: &mut Vec<FieldError>) {
    if !schema.is_set() {
        let path = &part.path;
        errors.push(schema.required(&format!("because it is defined in {path}")));
        return;
    }
    for more in junctors(part) {
        known(&more, schema, errors);
    }
    if let Some(items) = inner(part, "items") {
        known(&items, &schema.get("items"), errors);
    }
    for (name, member) in properties(part) {
        known(&member, &property(schema, name), errors);
    }
}
