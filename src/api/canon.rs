//! The one canonical form of an object, before apply, comparison and storage.

use serde_json::Value;

use crate::schema::Schema;

/// Brings `object` into the form in which Go would have written it: nulls and
/// `omitempty` zero values gone, quantities and times canonical.
pub fn canonicalize(_object: &mut Value, _schema: &Schema) {
    todo!()
}
