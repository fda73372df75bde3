//! The one answer to a request.

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Response, StatusCode, header};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::oneshot;
use wasmtime_wasi_http::p2::bindings::http::types::ErrorCode;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

/// What the server sends.
pub(super) type Answer = Response<HyperOutgoingBody>;

/// Takes the first answer to a request, be it the guest's or ours; later ones
/// are dropped.
#[derive(Clone)]
pub(super) struct Reply(Arc<Mutex<Option<oneshot::Sender<Answer>>>>);

impl Reply {
    pub(super) fn new() -> (Reply, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        (Reply(Arc::new(Mutex::new(Some(sender)))), receiver)
    }

    pub(super) fn send(&self, answer: Answer) {
        let sender = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sender) = sender {
            // The client may have gone away.
            let _ = sender.send(answer);
        }
    }

    /// What the guest set as its response.
    pub(super) fn send_guest(&self, answer: Result<Answer, ErrorCode>) {
        self.send(answer.unwrap_or_else(|code| {
            plain(
                StatusCode::BAD_GATEWAY,
                &format!("the wasm program answered with an error: {code}"),
            )
        }));
    }
}

/// A short text of ours.
pub(super) fn plain(status: StatusCode, text: &str) -> Answer {
    let body = Full::new(Bytes::from(format!("{text}\n"))).map_err(|never| match never {});
    let mut answer = Response::new(body.boxed_unsync());
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}
