//! OpenAPI documents, v3 and v2, made on demand.
//!
//! They are large (megabytes) and seldom asked for, so nothing of them is kept.
//! Types and descriptions come from `k8s-openapi`, merge rules from our own
//! table of types, paths from the kinds.

mod custom;
mod definitions;
mod form;
mod gnostic;
mod groups;
mod names;
mod operations;
mod parameters;
mod paths;
mod place;
mod types;
mod values;

use std::hash::{DefaultHasher, Hash, Hasher};

use bytes::Bytes;
use serde_json::{Map, Value, json};

use crate::kind::KindRef;
use definitions::Definitions;

use form::Form;
pub use place::Place;

/// What we say we are.
const VERSION: &str = "v1.36.0";

/// The index of v3 documents (`/openapi/v3`). Its hashes tell clients when their copies are stale.
pub fn v3_index(kinds: &[KindRef]) -> Value {
    let of = |place: Place<'_>| {
        let url = format!("/openapi/v3/{place}?hash={}", v3_hash(kinds, place));
        (place.to_string(), json!({"serverRelativeURL": url}))
    };
    let paths: Map<String, Value> = Place::all(kinds).into_iter().map(of).collect();
    json!({"paths": paths})
}

/// The hash under which the index names a document.
pub fn v3_hash(kinds: &[KindRef], place: Place<'_>) -> String {
    hash(&place.kinds(kinds))
}

/// The v3 document at a place (`apis/apps/v1`); `None` when there is nothing.
pub fn v3_document(kinds: &[KindRef], place: Place<'_>) -> Option<Value> {
    let kinds = place.kinds(kinds);
    if kinds.is_empty() && !place.is_fixed() {
        return None;
    }
    let (definitions, paths) = match place {
        Place::Version(..) => {
            let definitions = Definitions::of(&kinds, Form::V3);
            let paths = paths::paths(&kinds, &definitions, Form::V3);
            (definitions, paths)
        }
        _ => (Definitions::of(&[], Form::V3), groups::of_place(place, Form::V3)),
    };
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": definitions.schemas, "securitySchemes": bearer()},
        "security": [{"BearerToken": []}],
    }))
}

/// A v2 document as gnostic protobuf
/// (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
pub fn v2_protobuf(document: &Value) -> Bytes {
    gnostic::v2(document).into()
}

/// A v3 document as gnostic protobuf
/// (`application/com.github.proto-openapi.spec.v3@v1.0+protobuf`).
pub fn v3_protobuf(document: &Value) -> Bytes {
    gnostic::v3(document).into()
}

/// The v2 document (`/openapi/v2`).
pub fn v2(kinds: &[KindRef]) -> Value {
    let definitions = Definitions::of(kinds, Form::V2);
    let paths = paths::paths(kinds, &definitions, Form::V2);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": definitions.schemas,
        "securityDefinitions": bearer(),
        "security": [{"BearerToken": []}],
    })
}

/// How clients say who they are.
fn bearer() -> Value {
    json!({"BearerToken": {
        "type": "apiKey", "name": "authorization", "in": "header", "description": "Bearer Token authentication",
    }})
}

/// Changes whenever a document may: with this build, and with the kinds and their verbs.
fn hash(kinds: &[KindRef]) -> String {
    let mut hasher = DefaultHasher::new();
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    for kind in kinds {
        (kind.group, kind.version, kind.kind, kind.verbs).hash(&mut hasher);
        kind.custom().map(|custom| custom.generation()).hash(&mut hasher);
        for part in kind.subresources {
            (part.name, part.kind, part.verbs).hash(&mut hasher);
        }
    }
    format!("{:016X}", hasher.finish())
}

#[cfg(test)]
mod tests;
