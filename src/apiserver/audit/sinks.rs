//! Where events go: bounded queues, each with somebody who writes what is in it. A request never waits for the log;
//! what finds its queue full is dropped and counted.

use std::cell::LazyCell;
use std::sync::Arc;

use base::telemetry::Metrics;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Events that may wait in a queue, or are being written.
const QUEUE_EVENTS: usize = 10_000;
/// Bytes of them: an event may hold a whole list.
const QUEUE_BYTES: u32 = 64 << 20;

/// What says of an event that it was cut.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// An event as text. It takes room in its queue until this is dropped.
pub struct Line {
    /// The text, JSON without a line end.
    pub text: Bytes,
    _room: OwnedSemaphorePermit,
}

/// The end of a queue that somebody writes from.
pub type Lines = mpsc::Receiver<Line>;

/// The end of a queue that events are put into.
pub struct Queue {
    lines: mpsc::Sender<Line>,
    room: Arc<Semaphore>,
    event_bytes_max: usize,
}

impl Queue {
    /// A queue of events; larger ones are cut if a size is given.
    pub fn new(event_bytes_max: Option<usize>) -> (Self, Lines) {
        Self::of(QUEUE_EVENTS, QUEUE_BYTES, event_bytes_max)
    }

    fn of(events: usize, bytes: u32, event_bytes_max: Option<usize>) -> (Self, Lines) {
        let (lines, queue) = mpsc::channel(events);
        let queue_of_lines = Self {
            lines,
            room: Arc::new(Semaphore::new(bytes as usize)),
            event_bytes_max: event_bytes_max.unwrap_or(bytes as usize),
        };
        (queue_of_lines, queue)
    }

    fn fits(&self, text: &Bytes) -> bool {
        text.len() <= self.event_bytes_max
    }

    /// Whether there was room.
    fn put(&self, text: Bytes) -> bool {
        let Ok(bytes) = u32::try_from(text.len()) else {
            return false;
        };
        let Ok(room) = self.room.clone().try_acquire_many_owned(bytes) else {
            return false;
        };
        self.lines.try_send(Line { text, _room: room }).is_ok()
    }
}

/// The queues. Copies share them.
#[derive(Clone)]
pub struct Sinks {
    queues: Arc<[Queue]>,
    counters: Counters,
}

/// What there is to say about the log itself.
#[derive(Clone, Default)]
pub struct Counters {
    events: Counter,
    lost: Counter,
}

impl Counters {
    /// Counters that `/metrics` shows.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            events: metrics.add(
                "apiserver_audit_event",
                "Audit events generated",
                Counter::default(),
            ),
            lost: metrics.add(
                "apiserver_audit_error",
                "Audit events that could not be recorded",
                Counter::default(),
            ),
        }
    }

    /// Counts events that are lost.
    pub fn lose(&self, events: usize) {
        self.lost.inc_by(events as u64);
    }
}

impl Sinks {
    /// Sinks that send to these queues.
    pub fn new(queues: Vec<Queue>, counters: Counters) -> Self {
        Self {
            queues: queues.into(),
            counters,
        }
    }

    /// Sends an event to all; to those for whom it is too large, without the objects of request and answer.
    pub fn send(&self, event: &Value) {
        self.counters.events.inc();
        let whole = Bytes::from(event.to_string());
        let cut = LazyCell::new(|| Bytes::from(truncated(event).to_string()));
        for queue in self.queues.iter() {
            let text = if queue.fits(&whole) { &whole } else { &*cut };
            if !(queue.fits(text) && queue.put(text.clone())) {
                self.counters.lose(1);
            }
        }
    }
}

fn truncated(event: &Value) -> Value {
    let mut event = event.clone();
    api::value::remove(&mut event, "requestObject");
    api::value::remove(&mut event, "responseObject");
    if !event["annotations"].is_object() {
        event["annotations"] = json!({});
    }
    event["annotations"][TRUNCATED] = "true".into();
    event
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Sinks that keep what they are sent.
    pub(crate) fn memory() -> (Sinks, Arc<Kept>) {
        let (queue, lines) = Queue::new(None);
        let kept = Arc::new(Kept(Mutex::new(lines)));
        (Sinks::new(vec![queue], Counters::default()), kept)
    }

    /// A line that somebody has put into a queue.
    pub(crate) fn line(text: &'static str) -> Line {
        let (queue, mut lines) = Queue::new(None);
        assert!(queue.put(Bytes::from_static(text.as_bytes())));
        lines.try_recv().unwrap()
    }

    pub(crate) struct Kept(Mutex<Lines>);

    impl Kept {
        pub(crate) fn lock(&self) -> Result<Vec<Value>, ()> {
            let mut lines = self.0.lock().unwrap();
            let lines = std::iter::from_fn(|| lines.try_recv().ok());
            Ok(lines
                .map(|line| serde_json::from_slice(&line.text).unwrap())
                .collect())
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let counters = Counters::default();
        let (few, _few) = Queue::of(1, 1000, None);
        let (small, mut lines) = Queue::of(10, 10, None);
        let sinks = Sinks::new(vec![few, small], counters.clone());
        for _ in 0..3 {
            sinks.send(&Value::Null);
        }
        // The second has room for two of four bytes each.
        assert_eq!((counters.events.get(), counters.lost.get()), (3, 2 + 1));
        drop(lines.try_recv().unwrap());
        sinks.send(&Value::Null);
        assert_eq!(counters.lost.get(), 3 + 1, "what was written makes room");
    }

    #[test]
    fn large_events_lose_their_objects_and_say_so() {
        let (large, mut whole) = Queue::new(None);
        let (small, mut cut) = Queue::new(Some(100));
        let counters = Counters::default();
        let sinks = Sinks::new(vec![large, small], counters.clone());
        let event = json!({"auditID": "a", "requestObject": {"data": "x".repeat(200)}, "responseObject": {},
            "annotations": {"kept": "k"}});
        sinks.send(&event);
        let read = |line: Line| serde_json::from_slice::<Value>(&line.text).unwrap();
        assert_eq!(read(whole.try_recv().unwrap()), event);
        assert_eq!(
            read(cut.try_recv().unwrap()),
            json!({"auditID": "a", "annotations": {"kept": "k", "audit.k8s.io/truncated": "true"}})
        );
        sinks.send(&json!({"auditID": "a".repeat(200)}));
        assert!(cut.try_recv().is_err() && whole.try_recv().is_ok());
        assert_eq!(counters.lost.get(), 1, "too large even without them");
    }
}
