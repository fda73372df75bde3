//! Where events go: bounded queues, each with somebody who writes what is in it. A request never waits for the log;
//! what finds its queue full is dropped and counted.

use std::sync::Arc;

use base::telemetry::Metrics;
use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use tokio::sync::mpsc;

/// Events that may wait in a queue.
pub const QUEUE_EVENTS: usize = 10_000;

/// The queues. Copies share them.
#[derive(Clone)]
pub struct Sinks {
    queues: Arc<[mpsc::Sender<Bytes>]>,
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
    pub fn new(queues: Vec<mpsc::Sender<Bytes>>, counters: Counters) -> Self {
        Self {
            queues: queues.into(),
            counters,
        }
    }

    /// Sends an event to all.
    pub fn send(&self, event: &Value) {
        self.counters.events.inc();
        let line = Bytes::from(event.to_string());
        for queue in self.queues.iter() {
            if queue.try_send(line.clone()).is_err() {
                self.counters.lose(1);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Sinks that keep what they are sent.
    pub(crate) fn memory() -> (Sinks, Arc<Lines>) {
        let (sender, receiver) = mpsc::channel(100);
        let lines = Arc::new(Lines(Mutex::new(receiver)));
        (Sinks::new(vec![sender], Counters::default()), lines)
    }

    pub(crate) struct Lines(Mutex<mpsc::Receiver<Bytes>>);

    impl Lines {
        pub(crate) fn lock(&self) -> Result<Vec<Value>, ()> {
            let mut receiver = self.0.lock().unwrap();
            let lines = std::iter::from_fn(|| receiver.try_recv().ok());
            Ok(lines.map(|line| serde_json::from_slice(&line).unwrap()).collect())
        }
    }

    #[test]
    fn what_finds_no_room_is_counted_and_nobody_waits() {
        let (sender, _receiver) = mpsc::channel(1);
        let counters = Counters::default();
        let sinks = Sinks::new(vec![sender], counters.clone());
        for _ in 0..3 {
            sinks.send(&Value::Null);
        }
        assert_eq!((counters.events.get(), counters.lost.get()), (3, 2));
    }
}
