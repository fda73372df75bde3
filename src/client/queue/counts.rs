//! What is counted of work queues, under the names that Kubernetes has for it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use base::telemetry::{Histogram, Metrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;

/// Seconds: from ten nanoseconds to ten.
const SECONDS: [f64; 10] = [1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 1.0, 10.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    name: &'static str,
}

type Histograms = Family<Name, Histogram, fn() -> Histogram>;

/// The series of all queues of a process. Clones share them.
#[derive(Clone)]
pub struct QueueMetrics {
    adds: Family<Name, Counter>,
    retries: Family<Name, Counter>,
    waits: Histograms,
    works: Histograms,
    queues: Queues,
}

// A std mutex: nothing awaits while it is held.
type Queues = Arc<Mutex<Vec<(&'static str, Weak<dyn Watched>)>>>;

/// A queue, as seen by whoever measures it.
pub(super) trait Watched: Send + Sync {
    /// How it is now.
    fn state(&self, now: Instant) -> State;
}

/// How a queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    /// Keys that are ready to be taken.
    pub depth: usize,
    /// How long all keys that somebody has have been worked on, together.
    pub unfinished: Duration,
    /// How long the one that has been worked on longest.
    pub longest: Duration,
}

/// What one queue counts; nothing where it has no name.
#[derive(Default)]
pub(super) struct Counts(Option<Named>);

struct Named {
    adds: Counter,
    retries: Counter,
    waits: Histogram,
    works: Histogram,
}

impl QueueMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let queues = Queues::default();
        metrics.collect(States(queues.clone()));
        Self {
            adds: metrics.add(
                "workqueue_adds",
                "Total number of adds handled by workqueue",
                Family::default(),
            ),
            retries: metrics.add(
                "workqueue_retries",
                "Total number of retries handled by workqueue",
                Family::default(),
            ),
            waits: metrics.add(
                "workqueue_queue_duration_seconds",
                "How long in seconds an item stays in workqueue before being requested",
                Family::new_with_constructor(|| Histogram::new(&SECONDS)),
            ),
            works: metrics.add(
                "workqueue_work_duration_seconds",
                "How long in seconds processing an item from workqueue takes",
                Family::new_with_constructor(|| Histogram::new(&SECONDS)),
            ),
            queues,
        }
    }

    /// What is counted of the queue with that name.
    pub(super) fn counts(&self, name: &'static str) -> Counts {
        let label = Name { name };
        Counts(Some(Named {
            adds: self.adds.get_or_create_owned(&label),
            retries: self.retries.get_or_create_owned(&label),
            waits: self.waits.get_or_create_owned(&label),
            works: self.works.get_or_create_owned(&label),
        }))
    }

    /// Tells how a queue is, as long as it is there.
    pub(super) fn watch(&self, name: &'static str, queue: &Arc<dyn Watched>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|(_, queue)| queue.strong_count() > 0);
        queues.push((name, Arc::downgrade(queue)));
    }
}

impl Counts {
    pub fn added(&self, count: u64) {
        self.0.iter().for_each(|named| _ = named.adds.inc_by(count));
    }

    pub fn failed(&self) {
        self.0.iter().for_each(|named| _ = named.retries.inc());
    }

    pub fn taken(&self, waited: Duration) {
        self.0
            .iter()
            .for_each(|named| named.waits.observe(waited.as_secs_f64()));
    }

    pub fn worked(&self, worked: Duration) {
        self.0
            .iter()
            .for_each(|named| named.works.observe(worked.as_secs_f64()));
    }
}

/// Looks at all queues at each scrape.
struct States(Queues);

impl std::fmt::Debug for States {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("States")
    }
}

impl States {
    /// Queues that have the same name are told as one, as those of one controller that began to lead again.
    fn now(&self) -> BTreeMap<&'static str, State> {
        let queues: Vec<_> = {
            let queues = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queues
                .iter()
                .filter_map(|(name, queue)| Some((*name, queue.upgrade()?)))
                .collect()
        };
        let (mut states, now) = (BTreeMap::<_, State>::new(), Instant::now());
        for (name, queue) in queues {
            let (one, all) = (queue.state(now), states.entry(name).or_default());
            all.depth += one.depth;
            all.unfinished += one.unfinished;
            all.longest = all.longest.max(one.longest);
        }
        states
    }
}

/// What a gauge tells of a queue.
type Told = fn(&State) -> f64;

impl Collector for States {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let states = self.now();
        let gauges: [(&str, &str, Told); 3] = [
            ("workqueue_depth", "Current depth of workqueue", |state| {
                state.depth as f64
            }),
            (
                "workqueue_unfinished_work_seconds",
                "How many seconds of work has done that is in progress and hasn't been observed by work_duration",
                |state| state.unfinished.as_secs_f64(),
            ),
            (
                "workqueue_longest_running_processor_seconds",
                "How many seconds has the longest running processor for workqueue been running",
                |state| state.longest.as_secs_f64(),
            ),
        ];
        for (series, help, value) in gauges {
            let mut family = encoder.encode_descriptor(series, help, None, MetricType::Gauge)?;
            for (name, state) in &states {
                ConstGauge::new(value(state)).encode(family.encode_family(&Name { name })?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_tells_how_it_is() {
        let metrics = Metrics::new();
        let queues = QueueMetrics::new(&metrics);
        let queue = queues.queue::<u32>("deployment");
        for key in [1, 2, 2, 3] {
            queue.add(key);
        }
        let key = queue.get().await.unwrap();
        queue.add_rate_limited(9);
        let has = |lines: &[&str]| {
            let text = metrics.encode_plain();
            for line in lines {
                assert!(text.lines().any(|found| found == *line), "{line}: {text}");
            }
        };
        has(&[
            "workqueue_adds_total{name=\"deployment\"} 3",
            "workqueue_retries_total{name=\"deployment\"} 1",
            "workqueue_depth{name=\"deployment\"} 2.0",
            "workqueue_queue_duration_seconds_count{name=\"deployment\"} 1",
            "workqueue_queue_duration_seconds_bucket{le=\"10\",name=\"deployment\"} 1",
        ]);
        let nobody_works = "workqueue_longest_running_processor_seconds{name=\"deployment\"} 0.0";
        let text = metrics.encode_plain();
        assert!(text.lines().all(|found| found != nobody_works), "{text}");
        queue.done(&key);
        has(&[
            "workqueue_work_duration_seconds_count{name=\"deployment\"} 1",
            nobody_works,
        ]);
        // One that is gone is not told of.
        drop(queue);
        assert!(!metrics.encode_plain().contains("workqueue_depth{"));
    }
}
