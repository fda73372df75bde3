//! Objects as `meta/v1.Table` and `PartialObjectMetadata`.

use jiff::Timestamp;
use serde_json::Value;

use crate::kind::Kind;

/// What a table's rows carry of their objects (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Include {
    /// Nothing.
    None,
    /// Metadata only.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// A single object, or a list of that kind, as a `Table`. `headers` says whether column definitions
/// are wanted (watch events after the first leave them out).
pub fn table(_kind: &Kind, _object: &Value, _include: Include, _headers: bool, _now: Timestamp) -> Value {
    todo!()
}

/// A single object as `PartialObjectMetadata`, or a list as `PartialObjectMetadataList`.
pub fn partial(_object: &Value) -> Value {
    todo!()
}
