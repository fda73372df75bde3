//! Time as a parameter.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// A source of time. Share it as `Arc<dyn Clock>`.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time; may jump in either direction when the machine's clock is set.
    fn now(&self) -> Timestamp;
    /// Time since some fixed moment; never goes backwards. For measuring and for deadlines.
    fn monotonic(&self) -> Duration;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    pub fn new() -> Self {
        SystemClock {
            start: Instant::now(),
        }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock::new()
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

/// A clock that stands still until it is told to move.
#[derive(Debug)]
pub struct ManualClock {
    // A std mutex: nothing awaits while holding it.
    times: Mutex<(Timestamp, Duration)>,
}

impl ManualClock {
    /// A clock that shows `now`, its monotonic time at zero.
    pub fn new(now: Timestamp) -> Self {
        ManualClock {
            times: Mutex::new((now, Duration::ZERO)),
        }
    }

    /// Moves both times forward. The wall clock saturates at the end of representable time.
    pub fn advance(&self, by: Duration) {
        let mut times = self.lock();
        let step = SignedDuration::try_from(by).unwrap_or(SignedDuration::MAX);
        times.0 = times.0.saturating_add(step).unwrap_or(Timestamp::MAX);
        times.1 = times.1.saturating_add(by);
    }

    /// Sets the wall clock alone, as an administrator or NTP would.
    pub fn set(&self, now: Timestamp) {
        self.lock().0 = now;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (Timestamp, Duration)> {
        self.times.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock::new(Timestamp::UNIX_EPOCH)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().0
    }

    fn monotonic(&self) -> Duration {
        self.lock().1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manual_clock_moves_only_when_told() {
        let clock = ManualClock::default();
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        clock.advance(Duration::from_secs(90));
        assert_eq!(clock.now().as_second(), 90);
        assert_eq!(clock.monotonic(), Duration::from_secs(90));
        clock.set(Timestamp::UNIX_EPOCH);
        assert_eq!(clock.now(), Timestamp::UNIX_EPOCH);
        assert_eq!(clock.monotonic(), Duration::from_secs(90));
    }
}
