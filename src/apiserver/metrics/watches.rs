//! What is counted of events that are sent to watchers.

use base::telemetry::{Histogram, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::about::KindLabels;
use super::requests::Histograms;
use super::running::Running;

/// Bytes of an event.
const BYTES: [f64; 8] = [
    1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0,
];

/// The families.
pub struct Watches {
    events: Family<KindLabels, Counter>,
    sizes: Histograms<KindLabels>,
}

impl Watches {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            events: metrics.add(
                "apiserver_watch_events",
                "Number of events sent in watch clients",
                Family::default(),
            ),
            sizes: metrics.add(
                "apiserver_watch_events_sizes",
                "Watch event size distribution in bytes",
                Family::new_with_constructor(|| Histogram::new(&BYTES)),
            ),
        }
    }

    /// What one watch of that kind counts.
    pub fn of(&self, kind: &KindLabels) -> Sent {
        Sent {
            events: self.events.get_or_create_owned(kind),
            sizes: self.sizes.get_or_create_owned(kind),
        }
    }
}

/// Counts the events of one watch.
#[derive(Clone, Debug)]
pub struct Sent {
    events: Counter,
    sizes: Histogram,
}

impl Sent {
    /// An event of that many bytes.
    pub fn event(&self, bytes: usize) {
        self.events.inc();
        self.sizes.observe(bytes as f64);
    }
}

/// A watch, counted while it lives, and its events.
pub struct Watching {
    /// Counts the watch.
    pub running: Running,
    /// Counts its events.
    pub sent: Sent,
}
