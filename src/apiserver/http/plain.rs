//! Paths that are no resources: discovery, OpenAPI, health, metrics, version, keys.

use std::sync::Arc;

use api::status::Status;
use base::telemetry::Metrics;
use http::header::{CACHE_CONTROL, ETAG, HeaderValue, VARY};
use http::{HeaderMap, Method, Response};
use serde_json::json;

use super::door::Door;
use super::incoming::Incoming;
use super::{aggregated, negotiate, reply};
use crate::authz::Attributes;
use crate::body::Body;
use crate::health::Probe;
use crate::openapi_routes::holds;
use crate::version;

/// The forms of `/metrics`: the one everybody understands, and the one that is given to whoever asks for it.
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Below it people see what goes on in flow control.
const QUEUES: &str = "/debug/api_priority_and_fairness/";

/// What is always there, besides discovery and health.
const PATHS: [&str; 10] = [
    "/.well-known/openid-configuration",
    "/debug/api_priority_and_fairness/dump_priority_levels",
    "/debug/api_priority_and_fairness/dump_queues",
    "/debug/api_priority_and_fairness/dump_requests",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/version",
];

/// Answers a request for a plain path.
pub async fn answer(door: &Arc<Door>, incoming: Incoming) -> Result<Response<Body>, Status> {
    let path = incoming.request.uri().path().to_owned();
    let method = incoming.request.method().clone();
    let verb = method.as_str().to_ascii_lowercase();
    door.authorizer
        .authorize(&Attributes::of_path(&incoming.user, &verb, &path))
        .await?;
    let found = find(door, &incoming, &path).await?;
    match found {
        Some(_) if method != Method::GET && method != Method::HEAD => {
            let text = "the server does not allow this method on the requested resource";
            Err(Status::new(405, "MethodNotAllowed", text))
        }
        Some(mut response) => {
            if method == Method::HEAD {
                *response.body_mut() = reply::empty();
            }
            Ok(response)
        }
        None if path.starts_with("/api/") || path.starts_with("/apis/") => Err(Status::no_such_path()),
        None => Ok(reply::text(404, "404 page not found\n")),
    }
}

async fn find(door: &Door, incoming: &Incoming, path: &str) -> Result<Option<Response<Body>>, Status> {
    let json =
        |value: serde_json::Value| Ok(Some(reply::response(200, "application/json", value.to_string())));
    if let Some((probe, part)) = Probe::of(path) {
        return Ok(health(door, incoming, probe, part));
    }
    match path.trim_end_matches('/') {
        "" | "/index.html" => json(json!({"paths": paths(door)})),
        "/version" => json(version::info()),
        "/metrics" => {
            door.members.measure().await;
            Ok(Some(metrics(incoming.request.headers(), &door.metrics)))
        }
        "/metrics/slis" => Ok(Some(metrics(incoming.request.headers(), door.health.slis()))),
        "/openid/v1/jwks" => {
            let body = door.tokens.key_set().to_string();
            Ok(Some(reply::response(200, "application/jwk-set+json", body)))
        }
        "/.well-known/openid-configuration" => json(
            door.tokens
                .discovery(&format!("https://{}/openid/v1/jwks", door.address)),
        ),
        other if other.starts_with(QUEUES) => {
            let dump = door.fairness.dump(other.strip_prefix(QUEUES).unwrap_or_default());
            Ok(dump.map(|text| reply::text(200, text)))
        }
        other if other.starts_with("/openapi/") => openapi(door, incoming, other).await,
        other if other.starts_with("/api") => Ok(discovery(door, incoming, other)),
        _ => Ok(None),
    }
}

/// What is measured, in the form that the client likes best.
pub(crate) fn metrics(headers: &HeaderMap, metrics: &Metrics) -> Response<Body> {
    let form = |range: &negotiate::Range<'_>| match (range.media, range.get("version")) {
        ("application/openmetrics-text", None | Some("1.0.0" | "0.0.1")) => Some(true),
        ("text/plain", None | Some("0.0.4")) | ("text/*" | "*/*", _) => Some(false),
        _ => None,
    };
    let open = negotiate::accepted(headers)
        .iter()
        .find_map(form)
        .unwrap_or(false);
    let (content_type, text) = match open {
        true => (OPEN_METRICS, metrics.encode()),
        false => (PLAIN_METRICS, metrics.encode_plain()),
    };
    let mut response = reply::response(200, content_type, "");
    let body = match negotiate::gzip(headers) {
        true => reply::compressed(&mut response, text.into_bytes().into()).whole(),
        false => text.into(),
    };
    *response.body_mut() = reply::full(body);
    response
}

/// All that can be read besides objects.
fn paths(door: &Door) -> Vec<String> {
    let mut paths: Vec<String> = PATHS.map(str::to_owned).into();
    paths.extend(door.discovery.paths());
    paths.extend(door.health.paths());
    paths.sort();
    paths
}

fn health(door: &Door, incoming: &Incoming, probe: Probe, part: &str) -> Option<Response<Body>> {
    let (code, text) = door.health.answer(probe, part, &incoming.query)?;
    Some(reply::text(code, text))
}

fn discovery(door: &Door, incoming: &Incoming, path: &str) -> Option<Response<Body>> {
    let headers = incoming.request.headers();
    let document = door.discovery.document(path, headers)?;
    let mut response = reply::response(200, document.content_type, document.body.clone());
    if !document.etag.is_empty() {
        tag(&mut response, &document.etag);
        response
            .headers_mut()
            .insert(CACHE_CONTROL, HeaderValue::from_static("public"));
        if holds(headers, &document.etag) {
            *response.status_mut() = http::StatusCode::NOT_MODIFIED;
            *response.body_mut() = reply::empty();
            return Some(response);
        }
    }
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept"));
    if negotiate::gzip(headers) {
        let body = reply::compressed(&mut response, document.body.into());
        *response.body_mut() = reply::full(body.whole());
    }
    Some(response)
}

async fn openapi(door: &Door, incoming: &Incoming, path: &str) -> Result<Option<Response<Body>>, Status> {
    let others = door.aggregation.others();
    if let Some(remote) = path
        .strip_prefix("/openapi/v3")
        .and_then(|path| others.of_path(path))
    {
        return aggregated::document(door, &remote, incoming).await.map(Some);
    }
    let hash = incoming.query.get("hash");
    if let Some(there) = hash.and_then(|hash| door.openapi.moved(path, hash)) {
        return Ok(Some(reply::moved(&there)));
    }
    let headers = incoming.request.headers();
    let Some(answer) = door.openapi.answer(path, headers).await? else {
        return Ok(None);
    };
    let mut response = reply::response(200, answer.content_type, "");
    tag(&mut response, &answer.etag);
    response
        .headers_mut()
        .insert(VARY, HeaderValue::from_static("Accept-Encoding, Accept"));
    if hash.is_some() {
        // The index names each document with its hash, so what is at that address stays.
        let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
        response.headers_mut().insert(CACHE_CONTROL, forever);
    }
    match answer.body {
        None => *response.status_mut() = http::StatusCode::NOT_MODIFIED,
        Some(body) => {
            let body = match negotiate::gzip(headers) {
                true => reply::compressed(&mut response, body.into()).whole(),
                false => body,
            };
            *response.body_mut() = reply::full(body);
        }
    }
    Ok(Some(response))
}

fn tag(response: &mut Response<Body>, etag: &str) {
    if let Ok(value) = HeaderValue::from_str(&format!("\"{etag}\"")) {
        response.headers_mut().insert(ETAG, value);
    }
}
