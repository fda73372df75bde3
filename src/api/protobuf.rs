//! Protobuf bodies → JSON values, driven by the schema's field numbers.

use serde_json::Value;

use crate::schema::{Gvk, Schema};

/// Decodes a body that begins with `k8s\0` into a JSON value of the schema's kind.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode(_body: &[u8], _schema: &Schema, _default: &Gvk) -> Result<Value, String> {
    Err("not yet".to_owned())
}
