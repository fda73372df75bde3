//! Bodies on their way to a guest.

use bytes::Bytes;
use hyper::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::CONTENT_LENGTH;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use wasmtime_wasi_http::{Error, WasiBody};

/// A body that gives up when nothing comes for too long.
pub(super) struct Timed<B> {
    inner: B,
    patience: Duration,
    end: Pin<Box<Sleep>>,
}

impl<B> Timed<B> {
    pub(super) fn new(inner: B, patience: Duration) -> Timed<B> {
        Timed {
            inner,
            patience,
            end: Box::pin(sleep(patience)),
        }
    }
}

impl<B: Body<Data = Bytes, Error = Error> + Unpin> Body for Timed<B> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(frame) => {
                let end = Instant::now() + self.patience;
                self.end.as_mut().reset(end);
                Poll::Ready(frame)
            }
            Poll::Pending => self
                .end
                .as_mut()
                .poll(cx)
                .map(|()| Some(Err(Error::ConnectionReadTimeout))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body that one guest sends another in memory. A connection would notice that it ends before the length that was
/// announced, or that its sender is gone; so does this.
pub(super) struct Handed<Held> {
    inner: WasiBody,
    /// Bytes to come, where the head says so.
    left: Option<u64>,
    gone: CancellationToken,
    /// Waits for that; made when there is nothing else to wait for.
    waiting: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// What is given back with the body.
    _held: Held,
}

impl<Held> Handed<Held> {
    /// A body after a head with these fields; `gone` fires when its sender can send no more.
    pub(super) fn new(
        inner: WasiBody,
        head: &HeaderMap,
        gone: CancellationToken,
        held: Held,
    ) -> Handed<Held> {
        let length = head.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
        Handed {
            inner,
            left: length.and_then(|text| text.parse().ok()),
            gone,
            waiting: None,
            _held: held,
        }
    }

    /// What an end at this moment means.
    fn end(&mut self) -> Option<Error> {
        match self.left.take() {
            Some(0) => None,
            _ if self.gone.is_cancelled() => Some(Error::ConnectionTerminated),
            Some(_) => Some(Error::HttpProtocolError),
            None => None,
        }
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let gone = &self.gone;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(gone.clone().cancelled_owned()));
        waiting.as_mut().poll(cx)
    }
}

impl<Held: Unpin> Body for Handed<Held> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                self.left = self.left.map(|left| left.saturating_sub(length));
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => Poll::Ready(self.end().map(Err)),
            Poll::Pending => self
                .poll_gone(cx)
                .map(|()| Some(Err(Error::ConnectionTerminated))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream;
    use http_body_util::{BodyExt, StreamBody};
    use hyper::header::HeaderValue;

    type Piece = Result<Frame<Bytes>, Error>;

    fn data(text: &'static str) -> Piece {
        Ok(Frame::data(Bytes::from_static(text.as_bytes())))
    }

    fn handed(pieces: Vec<Piece>, length: Option<u64>, gone: &CancellationToken) -> Handed<()> {
        let mut head = HeaderMap::new();
        if let Some(length) = length {
            head.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        let body = StreamBody::new(stream::iter(pieces)).boxed_unsync();
        Handed::new(body, &head, gone.clone(), ())
    }

    async fn read(body: Handed<()>) -> Result<(Bytes, Option<HeaderMap>), Error> {
        let all = body.collect().await?;
        let trailers = all.trailers().cloned();
        Ok((all.to_bytes(), trailers))
    }

    #[tokio::test]
    async fn data_and_trailers_arrive_as_they_were_sent() {
        let trailers = HeaderMap::from_iter([("sum".parse().unwrap(), HeaderValue::from(7))]);
        let pieces = vec![data("ab"), data("cd"), Ok(Frame::trailers(trailers.clone()))];
        let alive = CancellationToken::new();
        let (bytes, told) = read(handed(pieces, None, &alive)).await.unwrap();
        assert_eq!((&bytes[..], told), (&b"abcd"[..], Some(trailers)));
    }

    #[tokio::test]
    async fn an_end_before_the_announced_length_is_an_error() {
        let alive = CancellationToken::new();
        let whole = read(handed(vec![data("abcd")], Some(4), &alive)).await;
        assert_eq!(whole.unwrap().0, "abcd");
        let short = read(handed(vec![data("abcd")], Some(5), &alive)).await;
        assert!(matches!(short, Err(Error::HttpProtocolError)), "{short:?}");
    }

    #[tokio::test]
    async fn a_sender_that_is_gone_has_not_come_to_an_end() {
        let gone = CancellationToken::new();
        gone.cancel();
        let cut = read(handed(vec![data("abcd")], None, &gone)).await;
        assert!(matches!(cut, Err(Error::ConnectionTerminated)), "{cut:?}");
        let complete = read(handed(vec![data("abcd")], Some(4), &gone)).await;
        assert_eq!(complete.unwrap().0, "abcd");
    }

    #[tokio::test]
    async fn who_waits_for_more_hears_that_the_sender_is_gone() {
        let gone = CancellationToken::new();
        let silent = StreamBody::new(stream::pending::<Piece>()).boxed_unsync();
        let body = Handed::new(silent, &HeaderMap::new(), gone.clone(), ());
        let reading = tokio::spawn(read(body));
        tokio::task::yield_now().await;
        gone.cancel();
        let cut = reading.await.unwrap();
        assert!(matches!(cut, Err(Error::ConnectionTerminated)), "{cut:?}");
    }

    #[tokio::test]
    async fn patience_ends() {
        let silent = StreamBody::new(stream::pending::<Piece>());
        let ended = Timed::new(silent, Duration::from_millis(5)).collect().await;
        assert!(matches!(ended, Err(Error::ConnectionReadTimeout)));
    }
}
