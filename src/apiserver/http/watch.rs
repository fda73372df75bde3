//! Watches as a body: one JSON object a line, for as long as it lasts.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use api::request::EventStream;
use api::status::Status;
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, Stream, StreamExt};
use http::{Request, Response};
use http_body_util::StreamBody;
use hyper::body::Frame;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Message;

use super::convert::Conversion;
use super::until::Until;
use super::watches::Place;
use crate::body::{Body, BoxError, SyncStream};
use crate::metrics::{Running, Sent, Watching};
use crate::streams::websocket;

/// Events that are ready together are sent together, up to this many.
const TOGETHER: usize = 64;
/// And up to so many bytes; larger objects are passed on by themselves.
const LARGE: usize = 16 * 1024;
/// How long a watcher rests after it was sent all there was. What happens meanwhile goes out together, so that many
/// watchers of a busy collection do not each cost a wake-up and a packet for every change. What comes after
/// a pause is sent at once.
const REST: Duration = Duration::from_millis(5);

/// When a watch ends although nothing went wrong.
pub struct Limits {
    /// After this long.
    pub timeout: Duration,
    /// When the server stops, or the client's certificate proves nothing any more.
    pub until: Arc<Until>,
    /// When it loses contact with the other servers: whoever asks another one learns more.
    pub cut_off: tokio::sync::watch::Receiver<bool>,
    /// The place that it takes until then.
    pub place: Place,
}

/// The body of an answer to a watch. `watching` counts it until it is dropped.
pub fn body(events: EventStream, conversion: Conversion, limits: Limits, watching: Watching) -> Body {
    let frames = chunks(lines(events, conversion, watching.sent).boxed())
        .take_until(Box::pin(limits.end(watching.running)))
        .map(|chunk| Ok::<_, BoxError>(Frame::data(chunk)));
    Body::new(StreamBody::new(SyncStream::new(frames)))
}

/// Lines that are ready together, joined; with a rest after those that were all there was.
///
/// A client may ask for thousands of watches and read none: what is made for one before it is wanted must be small,
/// so large objects are passed on as they lie in memory, shared by all who watch them.
fn chunks(lines: BoxStream<'static, Line>) -> impl Stream<Item = Bytes> + Send + 'static {
    stream::unfold(
        (lines, Joined::default(), None),
        |(mut lines, mut joined, mut rest)| async move {
            if joined.ready.is_empty() {
                if let Some(until) = rest {
                    sleep_until(until).await;
                }
                joined.add(lines.next().await?);
                let mut count = 1;
                while joined.has_room(count)
                    && let Some(Some(line)) = lines.next().now_or_never()
                {
                    joined.add(line);
                    count += 1;
                }
                rest = joined.has_room(count).then(|| Instant::now() + REST);
                joined.end();
            }
            let chunk = joined.ready.pop_front()?;
            Some((chunk, (lines, joined, rest)))
        },
    )
}

/// Lines on their way into chunks.
#[derive(Default)]
struct Joined {
    ready: VecDeque<Bytes>,
    open: BytesMut,
}

impl Joined {
    fn add(&mut self, line: Line) {
        if line.object.len() < LARGE {
            return line.write(&mut self.open);
        }
        line.write_start(&mut self.open);
        self.end();
        self.ready.push_back(line.object);
        self.open.put_slice(Line::END);
    }

    fn has_room(&self, count: usize) -> bool {
        count < TOGETHER && self.ready.is_empty() && self.open.len() < LARGE
    }

    fn end(&mut self) {
        self.ready.push_back(self.open.split().freeze());
    }
}

/// The answer to a watch as a WebSocket: a text message for each event.
///
/// # Errors
/// 400 when the request is no proper opening.
pub fn socket(
    request: Request<Body>,
    events: EventStream,
    conversion: Conversion,
    limits: Limits,
    watching: Watching,
) -> Result<Response<Body>, Status> {
    let text = |line: Line| Message::text(String::from_utf8_lossy(&line.bytes()).into_owned());
    let messages = lines(events, conversion, watching.sent)
        .take_until(Box::pin(limits.end(watching.running)))
        .map(text);
    websocket::stream(request, "", messages)
}

impl Limits {
    /// Comes when the watch is over; `running` counts it until then.
    async fn end(mut self, running: Running) {
        let _running = running;
        tokio::select! {
            () = tokio::time::sleep(self.timeout) => {}
            _ = self.until.over() => {}
            // It fails when the server ends.
            _ = self.cut_off.wait_for(|cut_off| *cut_off) => {}
        }
    }
}

/// One line for each event; what goes wrong is an event too.
fn lines(
    events: EventStream,
    conversion: Conversion,
    sent: Sent,
) -> impl Stream<Item = Line> + Send + 'static {
    let mut first = true;
    events.map(move |event| {
        let line = event.and_then(|event| {
            let object = conversion.event(&event.object, first)?;
            first = false;
            Ok(Line {
                kind: event.kind.name(),
                object,
            })
        });
        let line = line.unwrap_or_else(|status| Line {
            kind: "ERROR",
            object: status.to_value().to_string().into(),
        });
        sent.event(line.len());
        line
    })
}

/// `{"type":"…","object":…}` and a line end.
struct Line {
    kind: &'static str,
    object: Bytes,
}

impl Line {
    const END: &[u8] = b"}\n";

    const START: [&str; 2] = ["{\"type\":\"", "\",\"object\":"];

    fn len(&self) -> usize {
        let [before, after] = Self::START;
        before.len() + self.kind.len() + after.len() + self.object.len() + Self::END.len()
    }

    fn write(&self, out: &mut BytesMut) {
        out.reserve(self.len());
        self.write_start(out);
        out.put_slice(&self.object);
        out.put_slice(Self::END);
    }

    fn write_start(&self, out: &mut BytesMut) {
        let [before, after] = Self::START;
        for piece in [before, self.kind, after] {
            out.put_slice(piece.as_bytes());
        }
    }

    fn bytes(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write(&mut out);
        out.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::super::convert::tests::idle;
    use super::super::given_up::GivenUp;
    use super::super::watches::Watches;
    use super::*;
    use crate::metrics::{About, HttpMetrics};
    use api::request::{EventKind, WatchEvent};
    use http_body_util::BodyExt;
    use tokio_util::sync::CancellationToken;

    #[tokio::test]
    async fn events_are_lines_and_errors_end_with_a_status() {
        let added = WatchEvent {
            kind: EventKind::Added,
            object: Bytes::from_static(b"{\"a\":1}"),
        };
        let events = stream::iter([Ok(added), Err(Status::expired("too old"))]).boxed();
        let metrics = HttpMetrics::new(&base::telemetry::Metrics::new());
        let (_contact, cut_off) = tokio::sync::watch::channel(false);
        let limits = Limits {
            timeout: Duration::from_secs(9),
            until: Until::stopped(CancellationToken::new()),
            cut_off,
            place: Watches::new(2, GivenUp::default()).admit("a").unwrap(),
        };
        let body = body(events, idle(), limits, metrics.watching(&About::default()));
        let text = body.collect().await.unwrap().to_bytes();
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        assert_eq!(lines[0], b"{\"type\":\"ADDED\",\"object\":{\"a\":1}}\n");
        let error: serde_json::Value = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!(
            (&error["type"], &error["object"]["code"]),
            (&"ERROR".into(), &410.into())
        );
    }

    #[tokio::test]
    async fn a_watch_ends_with_its_time() {
        let metrics = HttpMetrics::new(&base::telemetry::Metrics::new());
        let (_contact, cut_off) = tokio::sync::watch::channel(false);
        let limits = Limits {
            timeout: Duration::from_millis(3),
            until: Until::stopped(CancellationToken::new()),
            cut_off,
            place: Watches::new(2, GivenUp::default()).admit("a").unwrap(),
        };
        let events = stream::pending().boxed();
        let body = body(events, idle(), limits, metrics.watching(&About::default()));
        assert!(body.collect().await.unwrap().to_bytes().is_empty());
    }
}
