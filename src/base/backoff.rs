//! Exponential back-off.

use std::time::Duration;

use crate::random::Random;

/// Delays that double from a first to a largest one.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    max: Duration,
    jitter_percent: u32,
    failures: u32,
}

impl Backoff {
    /// Delays of `first`, twice `first`, and so on up to `max`, without jitter.
    pub fn new(first: Duration, max: Duration) -> Self {
        Backoff {
            first,
            max,
            jitter_percent: 0,
            failures: 0,
        }
    }

    /// Lengthens each delay by a random part of up to `percent` of it, so that
    /// many who failed together do not come back together.
    pub fn with_jitter(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// How often [`next`](Self::next) was asked since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// The delay before the next attempt; counts one failure.
    pub fn next(&mut self, random: &dyn Random) -> Duration {
        let delay = self.delay_after(self.failures);
        self.failures = self.failures.saturating_add(1);
        if self.jitter_percent == 0 {
            return delay;
        }
        let percent = 100 + random.below(u64::from(self.jitter_percent) + 1) as u32;
        delay.saturating_mul(percent) / 100
    }

    /// Starts over: the last attempt worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    fn delay_after(&self, failures: u32) -> Duration {
        let factor = 1u32.checked_shl(failures.min(31)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SeededRandom;

    #[test]
    fn doubles_up_to_the_largest() {
        let random = SeededRandom::new(0);
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let delays: Vec<u64> = (0..5).map(|_| backoff.next(&random).as_secs()).collect();
        assert_eq!(delays, [1, 2, 4, 5, 5]);
        backoff.reset();
        assert_eq!(backoff.next(&random), Duration::from_secs(1));
    }

    #[test]
    fn many_failures_do_not_overflow() {
        let mut backoff = Backoff::new(Duration::from_secs(10), Duration::from_secs(300)).with_jitter(10);
        for _ in 0..100 {
            let delay = backoff.next(&SeededRandom::new(9));
            assert!(delay >= Duration::from_secs(10) && delay <= Duration::from_secs(330));
        }
    }
}
