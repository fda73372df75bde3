//! OpenAPI documents, v3 and v2, made on demand.

use bytes::Bytes;

use crate::kind::Kind;

/// The index of v3 documents (`/openapi/v3`).
pub fn v3_index(_kinds: &[&'static Kind]) -> Bytes {
    todo!()
}

/// The v3 document of one group and version (`/openapi/v3/apis/apps/v1`).
pub fn v3_document(_kinds: &[&'static Kind], _group: &str, _version: &str) -> Option<Bytes> {
    todo!()
}

/// The v2 document as JSON (`/openapi/v2`).
pub fn v2_json(_kinds: &[&'static Kind]) -> Bytes {
    todo!()
}

/// The v2 document as gnostic protobuf
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(_kinds: &[&'static Kind]) -> Bytes {
    todo!()
}
