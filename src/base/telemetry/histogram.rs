//! A histogram that many threads observe at once: no lock, only counters.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Counts values by the bucket that they fall into. Clones count together. What is read while others observe may
/// hold a value in the sum that is not in a bucket yet, or the other way round, as with any scrape.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Upper bounds, each included, in ascending order.
    bounds: &'static [f64],
    /// One for each bound, and one for what is above them all.
    counts: Box<[AtomicU64]>,
    /// The bits of the sum of all values.
    sum: AtomicU64,
}

impl Histogram {
    /// A histogram of buckets with these upper bounds, which ascend.
    pub fn new(bounds: &'static [f64]) -> Self {
        Self(Arc::new(Inner {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }))
    }

    /// Counts a value.
    pub fn observe(&self, value: f64) {
        let at = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(at) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // It never fails: `add` has an answer to everything.
        let _ = self.0.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// How many values there have been.
    pub fn count(&self) -> u64 {
        self.0
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        // The library takes the greatest number for infinity.
        let bounds = self.0.bounds.iter().copied().chain([f64::MAX]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let buckets: Vec<(f64, u64)> = bounds.zip(counts).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum = f64::from_bits(self.0.sum.load(Ordering::Relaxed));
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;

    #[test]
    fn values_fall_into_the_first_bucket_that_holds_them() {
        let metrics = Metrics::new();
        let times = metrics.add("times", "Times", Histogram::new(&[0.5, 1.0, 2.0]));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let times = times.clone();
                std::thread::spawn(move || [0.25, 1.0, 1.5, 9.0].map(|value| times.observe(value)))
            })
            .collect();
        threads.into_iter().for_each(|thread| drop(thread.join()));
        assert_eq!(times.count(), 16);
        let text = metrics.encode();
        for line in [
            "times_sum 47.0",
            "times_count 16",
            "times_bucket{le=\"0.5\"} 4",
            "times_bucket{le=\"1.0\"} 8",
            "times_bucket{le=\"2.0\"} 12",
            "times_bucket{le=\"+Inf\"} 16",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
