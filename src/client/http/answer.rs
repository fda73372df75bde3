//! What a server answers: bodies, refusals, warnings.

use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;

/// How long an answer may take to arrive in full.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer read into memory.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// An answer's body, whole.
pub(super) async fn read(response: http::Response<Incoming>) -> Result<Bytes, Status> {
    let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(CALL_TIMEOUT, body).await;
    let body = body.map_err(|_| Status::timeout("the server's answer did not arrive in time"))?;
    body.map(|b| b.to_bytes())
        .map_err(|e| Status::unavailable(format!("reading the server's answer: {e}")))
}

/// The `Status` of an answer that is none of success.
pub(super) async fn refusal(response: http::Response<Incoming>) -> Status {
    let code = response.status();
    match read(response).await {
        Ok(body) => status_of(&body, code.as_u16()),
        Err(status) => status,
    }
}

/// The `Status` that a body holds, or one that says what came instead.
pub(super) fn status_of(body: &[u8], code: u16) -> Status {
    serde_json::from_slice(body).unwrap_or_else(|_| {
        let text = String::from_utf8_lossy(body.get(..200).unwrap_or(body))
            .trim()
            .to_owned();
        Status::new(
            code,
            "",
            if text.is_empty() {
                format!("the server answered with code {code}")
            } else {
                text
            },
        )
    })
}

/// The texts of `Warning: 299 - "TEXT"` headers.
pub(super) fn warnings(headers: &HeaderMap) -> Vec<String> {
    let texts = headers
        .get_all(header::WARNING)
        .iter()
        .filter_map(|v| v.to_str().ok());
    texts
        .filter_map(|text| text.strip_prefix("299 ")?.split_once('"')?.1.strip_suffix('"'))
        .map(|text| text.replace("\\\"", "\"").replace("\\\\", "\\"))
        .collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn warnings_lose_their_quotes() {
        let mut headers = HeaderMap::new();
        headers.append(
            header::WARNING,
            HeaderValue::from_static("299 - \"unknown field \\\"spec.a\\\"\""),
        );
        assert_eq!(warnings(&headers), ["unknown field \"spec.a\""]);
    }
}
