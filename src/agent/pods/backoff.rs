//! Growing pauses: before a crashed container starts again, before an image is asked for again.

use std::time::Duration;

/// The pause before a container is started again. The first restart is
/// immediate; then [`crash_base`](crate::config::Timing::crash_base) after the
/// end of the last run, doubling up to `crash_max`, and starting over when the
/// last restart lies more than twice `crash_max` before the end of the run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CrashBackoff {
    delay: Option<Duration>,
    last_restart: Duration,
}

impl CrashBackoff {
    /// Until when (monotonic) a container that ended at `finished` has to
    /// wait, and how long that is in all; `None`: it may start at once.
    pub fn waits_until(&self, finished: Duration, max: Duration) -> Option<(Duration, Duration)> {
        if self.expired(finished, max) {
            return None;
        }
        self.delay.map(|delay| (finished + delay, delay))
    }

    /// Counts a restart at `now` of a container that ended at `finished`.
    pub fn restarted(&mut self, finished: Duration, now: Duration, base: Duration, max: Duration) {
        self.delay = Some(match self.delay {
            Some(delay) if !self.expired(finished, max) => (delay * 2).min(max),
            _ => base.min(max),
        });
        self.last_restart = now;
    }

    fn expired(&self, finished: Duration, max: Duration) -> bool {
        finished.saturating_sub(self.last_restart) > max * 2
    }
}

/// A plain doubling pause.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doubling {
    delay: Option<Duration>,
}

impl Doubling {
    /// The next pause.
    pub fn next(&mut self, base: Duration, max: Duration) -> Duration {
        let delay = self.delay.map_or(base, |d| d * 2).min(max);
        self.delay = Some(delay);
        delay
    }

    /// Starts over: it worked.
    pub fn reset(&mut self) {
        self.delay = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: Duration = Duration::from_secs(10);
    const MAX: Duration = Duration::from_secs(300);

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn first_restart_is_immediate_then_doubles() {
        let mut backoff = CrashBackoff::default();
        assert_eq!(backoff.waits_until(s(1), MAX), None);
        backoff.restarted(s(1), s(1), BASE, MAX);
        let mut now = s(2);
        for expected in [10, 20, 40, 80, 160, 300, 300] {
            let (until, delay) = backoff.waits_until(now, MAX).unwrap();
            assert_eq!(delay, s(expected));
            assert_eq!(until, now + delay);
            backoff.restarted(now, until, BASE, MAX);
            now = until + s(1);
        }
    }

    #[test]
    fn ten_quiet_minutes_start_over() {
        let mut backoff = CrashBackoff::default();
        backoff.restarted(s(1), s(1), BASE, MAX);
        backoff.restarted(s(2), s(12), BASE, MAX);
        assert_eq!(backoff.waits_until(s(13), MAX), Some((s(33), s(20))));
        assert_eq!(backoff.waits_until(s(12 + 601), MAX), None);
        backoff.restarted(s(613), s(613), BASE, MAX);
        assert_eq!(backoff.waits_until(s(614), MAX), Some((s(624), s(10))));
    }
}
