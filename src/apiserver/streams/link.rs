//! Asking a node's agent.

use api::status::Status;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use tokio::sync::mpsc;

use crate::body::Body;
use crate::body::read;
use crate::body::streamed;
use crate::http::Door;
use crate::http::reply;
use crate::nodes::NodeDialer;

/// An agent's words about a failure are never longer.
const FAILURE_BYTES_MAX: usize = 64 * 1024;
const WAITING: usize = 64;

/// Encodes a path segment or a query value.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// A path of encoded segments, and a query of encoded pairs.
pub fn uri(segments: &[&str], query: &[(&str, &str)]) -> String {
    let path: Vec<String> = segments.iter().map(|segment| encode(segment)).collect();
    let pairs: Vec<String> = query.iter().map(|(k, v)| format!("{k}={}", encode(v))).collect();
    let mark = if pairs.is_empty() { "" } else { "?" };
    format!("/{}{mark}{}", path.join("/"), pairs.join("&"))
}

/// A body into which bytes are sent as they come; it ends when the sender is dropped.
pub fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let chunks = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async move {
        receiver.recv().await.map(|bytes| (Ok(bytes), receiver))
    });
    (sender, streamed(chunks))
}

/// Sends a request to a node's agent; its failures become ours.
pub async fn ask(
    door: &Door,
    node: &str,
    method: Method,
    uri: &str,
    body: Body,
) -> Result<Response<Body>, Status> {
    let request = Request::builder()
        .method(method)
        .uri(uri)
        .body(body)
        .map_err(Status::internal)?;
    let response = door.nodes.request(node, request).await?;
    if response.status() == StatusCode::OK {
        Ok(response)
    } else {
        Err(failure(response).await)
    }
}

/// What an agent's refusal says: a `v1.Status`, or plain words.
async fn failure(response: Response<Body>) -> Status {
    let code = response.status();
    let body = read(response.into_body(), FAILURE_BYTES_MAX)
        .await
        .unwrap_or_default();
    if let Ok(status) = serde_json::from_slice::<Status>(&body) {
        return status;
    }
    let text = String::from_utf8_lossy(&body).trim().to_owned();
    match code {
        StatusCode::NOT_FOUND => Status::new(404, "NotFound", text),
        code if code.is_client_error() => Status::new(code.as_u16(), "BadRequest", text),
        _ => Status::internal(text),
    }
}

/// An empty request body.
pub fn nothing() -> Body {
    reply::empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_encoded() {
        let text = uri(
            &["exec", "a", "web", "c"],
            &[("command", "echo 'a&b'"), ("tty", "true")],
        );
        assert_eq!(text, "/exec/a/web/c?command=echo%20%27a%26b%27&tty=true");
        assert_eq!(uri(&["logs"], &[]), "/logs");
    }
}
