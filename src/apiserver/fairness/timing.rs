//! Histograms of a fraction over time: each nanosecond counts for what the fraction was in it. A number that changes
//! seldom is seen as well in them as one that changes all the time.

use std::fmt::{self, Debug, Formatter};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Clock;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// A family of them.
pub type Fractions<L> = Family<L, Fraction, Making>;

/// What the members of a family are made with.
#[derive(Clone)]
pub struct Making {
    bounds: &'static [f64],
    clock: Arc<dyn Clock>,
}

impl Making {
    /// Histograms with these upper bounds, and one without.
    pub fn new(bounds: &'static [f64], clock: &Arc<dyn Clock>) -> Self {
        Self {
            bounds,
            clock: clock.clone(),
        }
    }
}

impl MetricConstructor<Fraction> for Making {
    fn new_metric(&self) -> Fraction {
        let spent = Spent::new(self.bounds, self.clock.monotonic());
        Fraction {
            clock: self.clock.clone(),
            spent: Arc::new(Mutex::new(spent)),
        }
    }
}

/// One fraction. Cheap to clone; clones are the same.
#[derive(Clone)]
pub struct Fraction {
    /// For those who look: what has not changed lately counts until now.
    clock: Arc<dyn Clock>,
    // A std lock: nothing awaits while it is held.
    spent: Arc<Mutex<Spent>>,
}

impl Fraction {
    /// The number is this from now on.
    pub fn set(&self, number: f64, now: Duration) {
        let mut spent = self.spent();
        spent.pass(now);
        spent.number = number;
    }

    /// The number is so much larger from now on.
    pub fn add(&self, more: f64, now: Duration) {
        let mut spent = self.spent();
        spent.pass(now);
        spent.number += more;
    }

    /// The whole is this from now on.
    pub fn of(&self, whole: f64, now: Duration) {
        let mut spent = self.spent();
        spent.pass(now);
        spent.whole = whole;
    }

    fn spent(&self) -> MutexGuard<'_, Spent> {
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Debug for Fraction {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        self.spent().fmt(formatter)
    }
}

impl TypedMetric for Fraction {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Fraction {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        let spent = {
            let mut spent = self.spent();
            spent.pass(self.clock.monotonic());
            spent.clone()
        };
        let bounds = spent.bounds.iter().copied().chain([f64::MAX]);
        let buckets: Vec<(f64, u64)> = bounds.zip(spent.nanoseconds.iter().copied()).collect();
        let all = spent.nanoseconds.iter().sum();
        encoder.encode_histogram::<NoLabelSet>(spent.sum, all, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How long the fraction was in each bucket. Pure.
#[derive(Clone, Debug)]
struct Spent {
    bounds: &'static [f64],
    /// One for each bound, and one beyond.
    nanoseconds: Vec<u64>,
    /// Of the fraction in each nanosecond.
    sum: f64,
    number: f64,
    whole: f64,
    since: Duration,
}

impl Spent {
    fn new(bounds: &'static [f64], since: Duration) -> Self {
        Self {
            bounds,
            nanoseconds: vec![0; bounds.len() + 1],
            sum: 0.0,
            number: 0.0,
            whole: 1.0,
            since,
        }
    }

    fn pass(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since).as_nanos();
        self.since = self.since.max(now);
        let fraction = self.number / self.whole;
        let bucket = self.bounds.partition_point(|bound| *bound < fraction);
        if let Some(nanoseconds) = self.nanoseconds.get_mut(bucket) {
            *nanoseconds += u64::try_from(passed).unwrap_or(u64::MAX);
            self.sum += fraction * passed as f64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_for_what_the_fraction_was_in_it() {
        let at = Duration::from_nanos;
        let mut spent = Spent::new(&[0.0, 0.5, 1.0], at(100));
        spent.pass(at(107));
        assert_eq!(spent.nanoseconds, [7, 0, 0, 0]);
        (spent.number, spent.whole) = (2.0, 4.0);
        spent.pass(at(110));
        assert_eq!(
            (spent.nanoseconds.as_slice(), spent.sum),
            (&[7, 3, 0, 0][..], 1.5)
        );
        spent.whole = 2.0;
        spent.pass(at(111));
        spent.number = 6.0;
        spent.pass(at(113));
        assert_eq!(spent.nanoseconds, [7, 3, 1, 2]);
        assert_eq!(spent.sum, 1.5 + 1.0 + 6.0);
        // A look that comes late changes nothing.
        spent.pass(at(50));
        assert_eq!(spent.nanoseconds, [7, 3, 1, 2]);
    }
}
