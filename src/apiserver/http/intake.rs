//! Bodies come in before a request takes its turn: one that comes slowly, or never, keeps nobody waiting but itself.
//! What has come and waits is bounded, for all and for each user.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use api::status::Status;
use base::telemetry::Metrics;
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Request};
use hyper::body::Body as _;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::time::Instant;

use super::incoming::text;
use super::reply;
use super::shares::Shares;
use crate::body::Body;
use crate::body::{ReadError, read_into};

/// Larger bodies are refused (Kubernetes' limit).
const BODY_BYTES_MAX: usize = 3 * 1024 * 1024;
/// All bodies that wait may take this many bytes, and half of them those of one user.
const BYTES_MAX: usize = 128 * 1024 * 1024;

/// The bodies of requests that have no turn yet.
pub struct Intake {
    names: RandomState,
    room: Arc<Shares<u64>>,
    awaited: Gauge,
    refused: Counter,
}

/// One body that is awaited, until this is dropped.
struct Awaited<'i>(&'i Gauge);

impl Drop for Awaited<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Intake {
    /// None yet.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            names: RandomState::new(),
            room: Shares::new(BYTES_MAX),
            awaited: metrics.add(
                "coracle_bodies_awaited",
                "Requests whose bodies are on their way",
                Gauge::default(),
            ),
            refused: metrics.add(
                "coracle_bodies_refused",
                "Requests that were turned away because too much of their user's, or of all users', bodies waited",
                Counter::default(),
            ),
        }
    }

    /// A user's request with its body, all of it.
    ///
    /// # Errors
    /// 413 when it is too large, 429 when too much waits already, 504 when it is not here in time.
    pub async fn whole(
        &self,
        user: &str,
        request: Request<Body>,
        until: Instant,
    ) -> Result<Request<Body>, Status> {
        if request.body().is_end_stream() {
            return Ok(request);
        }
        self.awaited.inc();
        let _awaited = Awaited(&self.awaited);
        let (parts, sent) = request.into_parts();
        let reading = tokio::time::timeout_at(until, self.read(user, &parts.headers, sent));
        // A body that never comes counts like an answer that never comes.
        let read = reading.await.map_err(|_| reply::late())??;
        Ok(Request::from_parts(parts, reply::full(read)))
    }

    async fn read(&self, user: &str, headers: &HeaderMap, sent: Body) -> Result<Bytes, Status> {
        let too_large = || {
            let text = format!("Request entity too large: limit is {BODY_BYTES_MAX}");
            Status::new(413, "RequestEntityTooLarge", text)
        };
        let told = text(headers, &CONTENT_LENGTH).parse::<usize>();
        if told.unwrap_or_default() > BODY_BYTES_MAX {
            return Err(too_large());
        }
        let (who, mut held) = (self.names.hash_one(user), Vec::new());
        let room = |bytes: usize| self.room.take(who, bytes).map(|share| held.push(share)).is_ok();
        match read_into(sent, BODY_BYTES_MAX, room).await {
            Ok(bytes) => Ok(bytes),
            Err(ReadError::TooLarge) => Err(too_large()),
            Err(ReadError::NoRoom) => {
                self.refused.inc();
                Err(reply::busy())
            }
            Err(ReadError::Broken(error)) => Err(Status::bad_request(format!(
                "reading the request's body: {error}"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::{StreamExt, stream};

    use super::*;
    use crate::body::streamed;

    /// A body of so many pieces of 64 KiB, that ends or does not.
    fn body(pieces: usize, ends: bool) -> Body {
        let piece = || Ok(Bytes::from_static(&[b'x'; 64 * 1024]));
        let sent = stream::iter((0..pieces).map(move |_| piece()));
        match ends {
            true => streamed(sent),
            false => streamed(sent.chain(stream::pending())),
        }
    }

    fn within(milliseconds: u64) -> Instant {
        Instant::now() + Duration::from_millis(milliseconds)
    }

    #[tokio::test]
    async fn bodies_come_whole_or_not_at_all() {
        let intake = Intake::new(&Metrics::new());
        let whole = intake
            .whole("a", Request::new(body(3, true)), within(60_000))
            .await;
        assert_eq!(whole.unwrap().body().size_hint().exact(), Some(3 * 64 * 1024));
        let refused = async |request| intake.whole("a", request, within(200)).await.unwrap_err().code;
        assert_eq!(refused(Request::new(body(3, false))).await, 504);
        let mut told = Request::new(body(1, true));
        told.headers_mut()
            .insert(CONTENT_LENGTH, (BODY_BYTES_MAX + 1).into());
        assert_eq!(refused(told).await, 413);
        let untold = intake
            .whole("a", Request::new(body(49, true)), within(60_000))
            .await;
        assert_eq!(untold.unwrap_err().code, 413);
    }

    #[tokio::test]
    async fn what_waits_is_bounded_for_each_and_for_all() {
        let intake = Arc::new(Intake::new(&Metrics::new()));
        let slow = || {
            let intake = intake.clone();
            tokio::spawn(async move {
                intake
                    .whole("a", Request::new(body(48, false)), within(3_000))
                    .await
            })
        };
        // Each of them sends all that it may, and never says that it has ended.
        let stalled: Vec<_> = (0..30).map(|_| slow()).collect();
        let code = async |user| match intake
            .whole(user, Request::new(body(40, true)), within(60_000))
            .await
        {
            Ok(_) => 200,
            Err(status) => status.code,
        };
        while code("a").await == 200 {
            tokio::task::yield_now().await;
        }
        assert_eq!(code("b").await, 200, "half the room is not for one");
        let mut ends = Vec::new();
        for one in stalled {
            ends.push(one.await.unwrap().unwrap_err().code);
        }
        assert!(ends.contains(&429) && ends.contains(&504), "{ends:?}");
        assert!(intake.refused.get() > 0);
        assert_eq!(code("a").await, 200, "what was given up takes no room");
    }
}
