//! A point in time on both clocks.

use std::time::Duration;

use base::Clock;
use jiff::Timestamp;

/// Wall-clock time for what people and the API read, monotonic time for
/// deadlines: an edge machine's clock may jump by years when NTP comes up, and
/// no back-off or grace period may stretch or vanish with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// For people.
    pub wall: Timestamp,
    /// For deadlines.
    pub mono: Duration,
}

impl Moment {
    /// The present.
    pub fn read(clock: &dyn Clock) -> Moment {
        Moment {
            wall: clock.now(),
            mono: clock.monotonic(),
        }
    }

    /// A moment so many seconds after zero, for tests and simulations.
    pub fn at(seconds: u64) -> Moment {
        let wall = Timestamp::from_second(seconds as i64).unwrap_or(Timestamp::MAX);
        Moment {
            wall,
            mono: Duration::from_secs(seconds),
        }
    }
}
