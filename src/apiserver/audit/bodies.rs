//! The body of a request as an object, for the log.

use api::decode::media_type;
use api::kind::KindRef;
use api::schema::{Gvk, Schemas};
use serde_json::Value;

/// What a body holds, whichever form it has; `None` for what cannot be read, about which the answer says more.
pub fn object(body: &[u8], content_type: &str, kind: Option<&KindRef>, subresource: &str) -> Option<Value> {
    if body.is_empty() {
        return None;
    }
    match media_type(content_type) {
        "application/vnd.kubernetes.protobuf" => protobuf(body, kind?, subresource),
        "application/yaml" | "application/apply-patch+yaml" => {
            serde_saphyr::from_str(std::str::from_utf8(body).ok()?).ok()
        }
        _ => serde_json::from_slice(body).ok(),
    }
}

fn protobuf(body: &[u8], kind: &KindRef, subresource: &str) -> Option<Value> {
    let gvk = match kind.subresource(subresource) {
        Some(part) if !part.version.is_empty() => Gvk::new(part.group, part.version, part.kind),
        Some(part) => Gvk::new(kind.group, kind.version, part.kind),
        None => Gvk::new(kind.group, kind.version, kind.kind),
    };
    let schema = Schemas::builtin().for_kind(&gvk.group, &gvk.version, &gvk.kind)?;
    api::protobuf::decode(body, &schema, &gvk).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bodies_are_shown_as_objects() {
        let of = |text: &str, kind: &str| object(text.as_bytes(), kind, None, "");
        assert_eq!(
            of("{\"a\": 1}", "application/json; charset=utf-8"),
            Some(json!({"a": 1}))
        );
        assert_eq!(
            of("a: 1\n", "application/apply-patch+yaml"),
            Some(json!({"a": 1}))
        );
        assert_eq!(of("", "application/json"), None);
        assert_eq!(of("{", ""), None);
    }
}
