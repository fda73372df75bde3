//! Bodies of requests and answers, whatever they are made of, and reading them, but never more than wanted.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use http_body_util::{BodyExt, BodyStream, StreamBody};
use hyper::body::Frame;

/// What can go wrong with a streamed body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of unknown make, in both directions.
pub type Body = http_body_util::combinators::BoxBody<Bytes, BoxError>;

/// Why a body could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It is larger than allowed.
    #[error("the body is too large")]
    TooLarge,
    /// There is no room for it.
    #[error("too many bodies wait")]
    NoRoom,
    /// The connection broke.
    #[error(transparent)]
    Broken(BoxError),
}

/// The whole body, if it has at most `max` bytes.
pub async fn read(body: Body, max: usize) -> Result<Bytes, ReadError> {
    read_into(body, max, |_| true).await
}

/// The same, as long as there is `room` for what comes.
pub async fn read_into(
    mut body: Body,
    max: usize,
    mut room: impl FnMut(usize) -> bool,
) -> Result<Bytes, ReadError> {
    let mut first = Bytes::new();
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let bytes = frame.map_err(ReadError::Broken)?.into_data().unwrap_or_default();
        if first.len() + all.len() + bytes.len() > max {
            return Err(ReadError::TooLarge);
        }
        if !bytes.is_empty() && !room(bytes.len()) {
            return Err(ReadError::NoRoom);
        }
        // Most bodies are one piece, which need not be copied.
        if first.is_empty() && all.is_empty() {
            first = bytes;
        } else {
            all.extend_from_slice(&std::mem::take(&mut first));
            all.extend_from_slice(&bytes);
        }
    }
    Ok(if all.is_empty() { first } else { all.freeze() })
}

/// A body made of a stream of chunks.
pub fn streamed<S>(chunks: S) -> Body
where
    S: Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
{
    Body::new(StreamBody::new(SyncStream::new(
        chunks.map(|chunk| chunk.map(Frame::data)),
    )))
}

/// Makes a stream shareable between threads by never sharing it: `BoxBody` wants `Sync`,
/// but bodies are only ever polled through `&mut`.
pub(crate) struct SyncStream<S>(Mutex<Pin<Box<S>>>);

impl<S> SyncStream<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self(Mutex::new(Box::pin(stream)))
    }
}

impl SyncStream<()> {
    /// Any body as a [`Body`].
    pub(crate) fn body<B>(body: B) -> Body
    where
        B: hyper::body::Body<Data = Bytes, Error = BoxError> + Send + 'static,
    {
        Body::new(StreamBody::new(SyncStream::new(BodyStream::new(body))))
    }
}

impl<S: Stream> Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        stream.as_mut().poll_next(context)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<_> = pieces
            .iter()
            .map(|p| Ok(Bytes::from_static(p.as_bytes())))
            .collect();
        streamed(futures_util::stream::iter(pieces))
    }

    #[tokio::test]
    async fn bodies_are_joined_up_to_the_limit() {
        assert_eq!(read(pieces(&["ab", "c", "", "d"]), 4).await.unwrap(), "abcd");
        assert_eq!(read(pieces(&["ab"]), 2).await.unwrap(), "ab");
        assert_eq!(read(pieces(&[]), 0).await.unwrap(), "");
        assert!(matches!(
            read(pieces(&["ab", "c"]), 2).await,
            Err(ReadError::TooLarge)
        ));
    }
}
