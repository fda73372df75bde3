//! Reading bodies, but never more than wanted.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};

use crate::nodes::{Body, BoxError};

/// What is read off of a body that nobody wants, at most.
const REST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// And for how long.
const REST_WITHIN: Duration = Duration::from_secs(2);

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

/// A body that was handed on, so that what nobody has read of it can be read off.
pub struct Lent(Option<Shared>);

type Shared = Arc<Mutex<Body>>;

impl Lent {
    /// Lends the body of a request, if it has one.
    pub fn of(request: Request<Body>) -> (Request<Body>, Self) {
        if request.body().is_end_stream() {
            return (request, Self(None));
        }
        let (parts, body) = request.into_parts();
        let shared = Arc::new(Mutex::new(body));
        let body = Body::new(Borrowed(shared.clone()));
        (Request::from_parts(parts, body), Self(Some(shared)))
    }

    /// Reads off what is left, unless somebody still reads, up to a bound: over HTTP/2 a refusal that comes before its
    /// request has ended resets the stream, and many clients then lose the refusal.
    pub async fn rest(self) {
        let Some(mut body) = self
            .0
            .and_then(Arc::into_inner)
            .and_then(|body| body.into_inner().ok())
        else {
            return;
        };
        let mut left = REST_BYTES_MAX;
        let read_off = async {
            while let Some(Ok(frame)) = body.frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                match left.checked_sub(length) {
                    Some(less) => left = less,
                    None => break,
                }
            }
        };
        // One that takes longer does without.
        let _ = tokio::time::timeout(REST_WITHIN, read_off).await;
    }
}

struct Borrowed(Shared);

impl hyper::body::Body for Borrowed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let mut body = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Pin::new(&mut *body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::watch::streamed;

    fn pieces(pieces: &[&'static str]) -> Body {
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

    #[tokio::test]
    async fn what_nobody_reads_is_read_off() {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, BoxError>>(1);
        let sent = tokio::spawn(async move {
            let mut sent = 0;
            while sent < 10 && sender.send(Ok(Bytes::from_static(b"piece"))).await.is_ok() {
                sent += 1;
            }
            sent
        });
        let body = streamed(futures_util::stream::unfold(receiver, |mut receiver| async {
            Some((receiver.recv().await?, receiver))
        }));
        let (request, lent) = Lent::of(Request::new(body));
        drop(request);
        lent.rest().await;
        assert_eq!(sent.await.unwrap(), 10);
    }

    #[tokio::test]
    async fn what_somebody_still_reads_is_left_to_them() {
        let (request, lent) = Lent::of(Request::new(pieces(&["a", "b"])));
        lent.rest().await;
        assert_eq!(read(request.into_body(), 9).await.unwrap(), "ab");
    }
}
