//! The body of a deletion.

use api::request::{Options, Request, Verb};
use bytes::Bytes;

/// Preconditions have no query parameter: they travel in a body.
pub(super) fn delete_options(request: &Request) -> Bytes {
    let Options {
        precondition_uid: uid,
        precondition_resource_version: version,
        ..
    } = &request.options;
    if !matches!(request.verb, Verb::Delete | Verb::DeleteCollection) || (uid.is_none() && version.is_none())
    {
        return Bytes::new();
    }
    let mut preconditions = serde_json::Map::new();
    for (key, value) in [("uid", uid), ("resourceVersion", version)] {
        if let Some(value) = value {
            preconditions.insert(key.to_owned(), value.as_str().into());
        }
    }
    // The server takes everything from the body once there is one.
    let mut body = serde_json::json!({
        "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions,
    });
    if let Some(seconds) = request.options.grace_period_seconds {
        body["gracePeriodSeconds"] = seconds.into();
    }
    if !request.options.propagation_policy.is_empty() {
        body["propagationPolicy"] = request.options.propagation_policy.as_str().into();
    }
    if request.options.dry_run {
        body["dryRun"] = serde_json::json!(["All"]);
    }
    body.to_string().into()
}
