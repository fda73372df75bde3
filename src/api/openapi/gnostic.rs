//! OpenAPI documents in gnostic's protobuf forms. What both have in common; field numbers of messages are those of the
//! published `OpenAPIv2.proto` and `OpenAPIv3.proto`.

mod parts;
mod v2;
mod v3;

pub(super) use v2::encode as v2;
pub(super) use v3::encode as v3;
