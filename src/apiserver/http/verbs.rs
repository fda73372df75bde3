//! What a request asks for, as metrics and rules call it, and for how long.

use std::time::Duration;

use api::decode::media_type;
use api::go;
use api::status::Status;
use http::Method;

use super::path::ResourcePath;
use super::query::Query;
use crate::streams;

/// An ordinary request that takes longer is given up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// The verb label of a request's metrics.
pub fn metric_verb(path: &ResourcePath, method: &Method, query: &Query) -> &'static str {
    if streams::is_stream(path) {
        return "CONNECT";
    }
    match (method.as_str(), path.name.is_empty()) {
        ("GET" | "HEAD", _) if path.watch => "WATCH",
        ("GET" | "HEAD", false) => "GET",
        ("GET" | "HEAD", true) if query.flag("watch") => "WATCH",
        ("GET" | "HEAD", true) => "LIST",
        ("POST", _) => "POST",
        ("PUT", _) => "PUT",
        ("PATCH", _) => "PATCH",
        ("DELETE", false) => "DELETE",
        ("DELETE", true) => "DELETECOLLECTION",
        _ => "other",
    }
}

/// The verb by which rules speak of a request, given that of its metrics.
pub fn rule_verb(metric: &str, method: &Method) -> &'static str {
    match metric {
        "CONNECT" if method == Method::GET => "get",
        "CONNECT" | "POST" => "create",
        "APPLY" => "patch",
        "PUT" => "update",
        "GET" => "get",
        "LIST" => "list",
        "WATCH" => "watch",
        "PATCH" => "patch",
        "DELETE" => "delete",
        "DELETECOLLECTION" => "deletecollection",
        _ => "other",
    }
}

/// Whether a body of that type is one to apply.
pub fn is_apply(content_type: &str) -> bool {
    media_type(content_type) == "application/apply-patch+yaml"
}

/// `timeout=10s`; Go's durations, of which clients send whole units.
pub fn timeout(query: &Query) -> Result<Duration, Status> {
    let Some(asked) = query.get("timeout").filter(|text| !text.is_empty()) else {
        return Ok(REQUEST_TIMEOUT);
    };
    let asked = go::parse_duration(asked).ok_or_else(|| {
        Status::bad_request(format!("invalid timeout specified in the request URL: {asked:?}"))
    })?;
    Ok(if asked.is_zero() {
        REQUEST_TIMEOUT
    } else {
        asked.min(REQUEST_TIMEOUT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_and_capped() {
        let of = |text: &str| {
            timeout(&Query::parse(text))
                .map(|d| d.as_secs())
                .map_err(|s| s.code)
        };
        assert_eq!(of(""), Ok(60));
        assert_eq!(of("timeout=32s"), Ok(32));
        assert_eq!(of("timeout=1h"), Ok(60));
        assert_eq!(of("timeout=x"), Err(400));
    }
}
