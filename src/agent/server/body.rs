//! Bodies of requests and answers.

use std::pin::Pin;
use std::task::Poll;

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;

/// What can go wrong with a streamed body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of unknown make.
pub type Body = BoxBody<Bytes, BoxError>;

pub(super) fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// A body of what comes through a channel.
pub(super) fn streamed(receiver: mpsc::Receiver<Result<Bytes, BoxError>>) -> Body {
    Channel(receiver).boxed()
}

struct Channel(mpsc::Receiver<Result<Bytes, BoxError>>);

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(context)
            .map(|item| item.map(|bytes| bytes.map(Frame::data)))
    }
}
