//! How many seats a level has wanted: measured all the time, summed up every ten seconds. Pure.

use std::time::Duration;

/// How much of what was known stays with each look; half of it is forgotten after five minutes.
const MEMORY: f64 = 0.977;

/// Measures a number that changes from time to time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Meter {
    value: f64,
    since: Duration,
    began: Duration,
    area: f64,
    squares: f64,
    highest: f64,
}

/// What was measured in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// The mean, weighed by time.
    pub average: f64,
    /// The standard deviation.
    pub deviation: f64,
    /// The highest.
    pub highest: f64,
}

impl Meter {
    /// The number is this from now on.
    pub fn set(&mut self, value: u64, now: Duration) {
        self.pass(now);
        self.value = value as f64;
        self.highest = self.highest.max(self.value);
    }

    /// What it was since this was asked last.
    pub fn take(&mut self, now: Duration) -> Measured {
        self.pass(now);
        let time = now.saturating_sub(self.began).as_secs_f64();
        let measured = match time > 0.0 {
            true => {
                let average = self.area / time;
                Measured {
                    average,
                    deviation: (self.squares / time - average * average).max(0.0).sqrt(),
                    highest: self.highest,
                }
            }
            false => Measured {
                average: self.value,
                deviation: 0.0,
                highest: self.highest,
            },
        };
        (self.began, self.area, self.squares, self.highest) = (now, 0.0, 0.0, self.value);
        measured
    }

    fn pass(&mut self, now: Duration) {
        let time = now.saturating_sub(self.since).as_secs_f64();
        self.area += self.value * time;
        self.squares += self.value * self.value * time;
        self.since = self.since.max(now);
    }
}

/// What a level has wanted lately: rises at once, and falls slowly.
pub fn smoothed(before: f64, measured: Measured) -> f64 {
    let envelope = measured.average + measured.deviation;
    envelope.max(MEMORY * before + (1.0 - MEMORY) * envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_weighed_by_time() {
        let mut meter = Meter::default();
        let at = Duration::from_secs;
        meter.set(10, at(1));
        meter.set(0, at(2));
        let measured = meter.take(at(10));
        assert_eq!((measured.average, measured.highest), (1.0, 10.0));
        assert!((measured.deviation - 3.0).abs() < 1e-9);
        assert_eq!(meter.take(at(20)), Measured::default());
        meter.set(5, at(20));
        assert_eq!(meter.take(at(20)).highest, 5.0);
        assert_eq!(meter.take(at(22)).average, 5.0);
    }

    #[test]
    fn wishes_rise_at_once_and_are_half_forgotten_after_five_minutes() {
        let busy = Measured {
            average: 80.0,
            deviation: 20.0,
            highest: 200.0,
        };
        let mut value = smoothed(3.0, busy);
        assert_eq!(value, 100.0);
        for _ in 0..30 {
            value = smoothed(value, Measured::default());
        }
        assert!((48.0..52.0).contains(&value), "{value}");
    }
}
