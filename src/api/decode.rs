//! Request bodies → JSON values, with Kubernetes' complaints.

use serde_json::Value;

use crate::schema::{Gvk, Schema};
use crate::status::Status;

/// What to do about unknown and duplicate fields (`fieldValidation`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FieldValidation {
    /// Drop them silently.
    Ignore,
    /// Drop them and warn.
    #[default]
    Warn,
    /// Refuse the request.
    Strict,
}

impl FieldValidation {
    /// From the query parameter; empty means `Warn`.
    ///
    /// # Errors
    /// 422 for any other text.
    pub fn parse(_text: &str) -> Result<Self, Status> {
        todo!()
    }
}

/// Decodes a request body into a value in which every field is known to
/// `schema` and has the right type; with it come the texts for `Warning`
/// headers. `default` fills in an absent `apiVersion` and `kind`; a body that
/// names another kind is refused.
///
/// # Errors
/// 400 as Kubernetes words it; 413 for a body that is too large; 415 for an
/// unknown media type.
pub fn decode(
    _body: &[u8],
    _content_type: &str,
    _schema: &Schema,
    _validation: FieldValidation,
    _default: &Gvk,
) -> Result<(Value, Vec<String>), Status> {
    todo!()
}

/// Decodes a patch body (JSON or, for apply, YAML) into a plain value, duplicates refused or
/// warned about as `validation` says.
///
/// # Errors
/// 400 for malformed text.
pub fn decode_patch(_body: &[u8], _yaml: bool, _validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
    todo!()
}
