//! Server-side apply and managed fields.

use jiff::Timestamp;
use serde_json::Value;

use crate::schema::Schema;
use crate::status::Status;

/// Who writes, and to what.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Field manager.
    pub manager: &'a str,
    /// `apiVersion` that the writer used.
    pub api_version: &'a str,
    /// Subresource written through; empty for the object itself.
    pub subresource: &'a str,
    /// Time of the write.
    pub now: Timestamp,
    /// Schema of the kind.
    pub schema: &'a Schema,
    /// Dotted paths that this write cannot change (`status`), so nobody owns them by it.
    pub reset: &'a [&'a str],
}

/// Server-side apply: merges `applied` into `live` and settles who owns what.
///
/// The result still has to be defaulted, canonicalised and validated; afterwards call
/// [`finish_apply`] with it.
///
/// # Errors
/// 409 with a cause for each conflict, unless `force`.
pub fn apply(_live: Option<&Value>, _applied: Value, _write: &Write<'_>, _force: bool) -> Result<Value, Status> {
    todo!()
}

/// `new` with `metadata.managedFields` brought up to date for a plain write.
pub fn update_managed_fields(_live: Option<&Value>, _new: Value, _write: &Write<'_>) -> Value {
    todo!()
}
