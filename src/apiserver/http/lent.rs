//! Bodies that are handed on, and what nobody reads of them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, SizeHint};

use crate::body::{Body, BoxError};

/// What is read off of a body that nobody wants, at most.
const REST_BYTES_MAX: usize = 4 * 1024 * 1024;
/// And for how long.
const REST_WITHIN: Duration = Duration::from_secs(2);

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
    use crate::body::tests::pieces;
    use crate::body::{read, streamed};

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
