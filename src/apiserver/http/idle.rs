//! Connections that nobody uses: they cost memory and a place among the guests, and end after a while.
//!
//! What HTTP/1.1 waits for, hyper bounds itself, from the first byte on. So here it is counted what goes on over HTTP/2,
//! and whether anything was asked at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::given_up::Reason;

/// How long a connection may say nothing after its handshake.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// How long one may rest between two requests, as with Kubernetes' server; its clients' idle connections last as long.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// What goes on over a connection. Requests only count here and wake nobody: there are thousands of them a second.
#[derive(Clone)]
pub struct Use(Arc<Requests>);

struct Requests {
    opened: Instant,
    under_way: AtomicUsize,
    /// When the last one ended, in milliseconds since the connection was opened; `NEVER` as long as none has.
    ended: AtomicU64,
}

const NEVER: u64 = u64::MAX;

/// A request under way, until it is dropped.
pub struct Busy(Use);

impl Use {
    /// Of a connection over which nothing was asked yet.
    pub fn new() -> Self {
        Self(Arc::new(Requests {
            opened: Instant::now(),
            under_way: AtomicUsize::new(0),
            ended: AtomicU64::new(NEVER),
        }))
    }

    /// A request has come.
    pub fn begin(&self) -> Busy {
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
        Busy(self.clone())
    }

    /// The connection is looked after by others from now on.
    pub fn leave_to_others(&self) {
        self.0.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns when the connection was without use for too long; why it is given up.
    pub async fn end(&self) -> Reason {
        loop {
            let left = self.left(self.age());
            if left.is_zero() {
                return match self.0.ended.load(Ordering::Relaxed) {
                    NEVER => Reason::Silent,
                    _ => Reason::Idle,
                };
            }
            tokio::time::sleep(left).await;
        }
    }

    fn age(&self) -> Duration {
        self.0.opened.elapsed()
    }

    /// How long it lasts at least, seen at that age; zero when it is over.
    fn left(&self, age: Duration) -> Duration {
        if self.0.under_way.load(Ordering::Acquire) > 0 {
            return IDLE_MAX;
        }
        match self.0.ended.load(Ordering::Relaxed) {
            NEVER => FIRST_WITHIN.saturating_sub(age),
            ended => (Duration::from_millis(ended) + IDLE_MAX).saturating_sub(age),
        }
    }

    fn ended(&self, age: Duration) {
        // No connection is that old.
        let age = u64::try_from(age.as_millis()).unwrap_or(NEVER);
        self.0.ended.store(age, Ordering::Relaxed);
        self.0.under_way.fetch_sub(1, Ordering::Release);
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.ended(self.0.age());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn silence_and_rest_end() {
        let used = Use::new();
        assert_eq!(used.left(10 * SECOND), 20 * SECOND);
        assert_eq!(used.left(30 * SECOND), Duration::ZERO, "nothing was asked");

        let (first, second) = (used.begin(), used.begin());
        assert!(!used.left(1000 * SECOND).is_zero());
        std::mem::forget(first);
        used.ended(1000 * SECOND);
        assert!(!used.left(2000 * SECOND).is_zero(), "one is under way");
        std::mem::forget(second);
        used.ended(2000 * SECOND);
        assert_eq!(used.left(2050 * SECOND), 40 * SECOND);
        assert_eq!(used.left(2090 * SECOND), Duration::ZERO);
        let again = used.begin();
        assert!(!used.left(2090 * SECOND).is_zero());
        drop(again);
        assert!(used.left(used.age()) > FIRST_WITHIN, "a request ended just now");
    }

    #[test]
    fn what_others_look_after_never_ends_here() {
        let used = Use::new();
        used.leave_to_others();
        assert!(!used.left(1_000_000 * SECOND).is_zero());
    }
}
