//! Responses: JSON, text, errors, compression, warnings.

use std::io::Write;

use api::status::{Details, Status};
use api::text::Text;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, LOCATION, RETRY_AFTER, VARY, WARNING,
};
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};

use crate::body::Body;

/// Smaller answers are not worth compressing (Kubernetes' threshold).
const GZIP_BYTES_MIN: usize = 128 * 1024;
/// What is compressed at once.
const GZIP_PIECE: usize = 64 * 1024;
/// As many heads as an answer usually has by the time it is sent, so that they find room at once.
const HEADS: usize = 8;
/// All warnings of one answer together; the rest is cut off, as in Kubernetes.
const WARNINGS_BYTES_MAX: usize = 4 * 1024;

/// A body that is there whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

/// An answer with a body that is there whole.
pub fn response(code: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(full(body));
    response.headers_mut().reserve(HEADS);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Plain text.
pub fn text(code: u16, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = response(code, "text/plain; charset=utf-8", body);
    response
        .headers_mut()
        .insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    response
}

/// The news that what was asked for is elsewhere for good.
pub fn moved(location: &str) -> Response<Body> {
    let mut response = text(301, "");
    if let Ok(value) = HeaderValue::from_str(location) {
        response.headers_mut().insert(LOCATION, value);
    }
    response
}

/// A failure.
pub fn failure(status: &Status) -> Response<Body> {
    let mut response = response(status.code, "application/json", status.to_value().to_string());
    let seconds = status
        .details
        .as_ref()
        .map_or(0, |details| details.retry_after_seconds);
    if seconds > 0 {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}

/// The end of what takes too long.
pub fn late() -> Status {
    Status::timeout("Timeout: request did not complete within the allotted timeout")
}

/// The refusal of what there is no room for now.
pub fn busy() -> Status {
    let mut status = Status::new(
        429,
        "TooManyRequests",
        "Too many requests, please try again later.",
    );
    status.details = Some(Box::new(Details {
        retry_after_seconds: 1,
        ..Details::default()
    }));
    status
}

/// Compresses a large body, and says so in the answer's head.
pub fn compressed(response: &mut Response<Body>, body: Text) -> Text {
    if body.len() < GZIP_BYTES_MIN {
        return body;
    }
    let Ok(bytes) = gzip(body.clone()) else {
        // Writing to memory does not fail; if it did, the plain text is still right.
        return body;
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    bytes.into()
}

fn gzip(body: Text) -> std::io::Result<Vec<u8>> {
    // The fastest level: the network saved matters, not the last tenth of it.
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    let mut reading = body.read();
    while reading.left() > 0 {
        encoder.write_all(&reading.take(GZIP_PIECE))?;
    }
    encoder.finish()
}

/// Adds `Warning` headers (code 299, RFC 7234).
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    let mut room = WARNINGS_BYTES_MAX;
    for text in warnings {
        let Some(value) = warning(text).filter(|value| value.len() <= room) else {
            break;
        };
        room -= value.len();
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().append(WARNING, value);
        }
    }
}

fn warning(text: &str) -> Option<String> {
    let mut quoted = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            // Header values carry no control characters; other letters only in ASCII.
            c if c.is_ascii_graphic() || c == ' ' => quoted.push(c),
            c if c.is_control() => quoted.push(' '),
            _ => quoted.push('?'),
        }
    }
    (!quoted.is_empty()).then(|| format!("299 - \"{quoted}\""))
}

/// Marks an answer as nobody else's to keep.
pub fn private(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers
        .entry(CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-cache, private"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_quoted() {
        let mut response = text(200, "");
        warn(
            &mut response,
            &[r#"unknown field "spec.x""#.to_owned(), "a\nb".to_owned()],
        );
        let values: Vec<_> = response.headers().get_all(WARNING).iter().collect();
        assert_eq!(values, [r#"299 - "unknown field \"spec.x\"""#, r#"299 - "a b""#]);
    }

    #[test]
    fn large_answers_are_compressed() {
        let body = Bytes::from(vec![b'a'; GZIP_BYTES_MIN]);
        let mut response = text(200, "");
        let sent = compressed(&mut response, body.into());
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        assert!(sent.len() < GZIP_BYTES_MIN / 20);
        let mut small = text(200, "");
        assert_eq!(compressed(&mut small, "x".into()).whole(), "x");
        assert!(!small.headers().contains_key(CONTENT_ENCODING));
    }
}
