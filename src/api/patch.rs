//! The three patch formats that are not apply.

use serde_json::Value;

use crate::schema::Schema;
use crate::status::Status;

/// RFC 6902.
///
/// # Errors
/// 400 for a malformed patch, 422 for one that does not fit the object.
pub fn json_patch(_object: Value, _patch: &Value) -> Result<Value, Status> {
    todo!()
}

/// RFC 7386.
pub fn merge_patch(_object: Value, _patch: Value) -> Value {
    todo!()
}

/// Strategic merge patch, with its directives.
///
/// # Errors
/// 400 for a patch that breaks the format's rules.
pub fn strategic_merge(_object: Value, _patch: Value, _schema: &Schema) -> Result<Value, Status> {
    todo!()
}
