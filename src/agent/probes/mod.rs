//! Probes: when to ask (pure: [`Machine`]), how to ask ([`handler`]), and the
//! task that does so for one container's run ([`run`]).

pub mod grpc;
pub mod handler;
pub mod http;
pub mod run;

use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// Whether the program has come up; the others wait for it.
    Startup,
    /// Whether it has to be restarted.
    Liveness,
    /// Whether it gets traffic.
    Readiness,
}

impl ProbeKind {
    /// As event texts begin: `Readiness probe failed: …`.
    pub fn title(self) -> &'static str {
        match self {
            ProbeKind::Startup => "Startup",
            ProbeKind::Liveness => "Liveness",
            ProbeKind::Readiness => "Readiness",
        }
    }
}

/// A probe's numbers, defaulted as the API server would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Before the first question.
    pub initial_delay: Duration,
    /// Between questions.
    pub period: Duration,
    /// For the answer.
    pub timeout: Duration,
    /// Good answers in a row that count as success.
    pub successes: u32,
    /// Bad answers in a row that count as failure.
    pub failures: u32,
}

impl Timings {
    /// The timings of a probe.
    pub fn of(probe: &Probe) -> Timings {
        let seconds = |value: Option<i32>, default: u64| {
            Duration::from_secs(value.and_then(|v| u64::try_from(v).ok()).unwrap_or(default))
        };
        let positive = |d: Duration, default: u64| {
            if d.is_zero() {
                Duration::from_secs(default)
            } else {
                d
            }
        };
        let count = |value: Option<i32>, default: u32| {
            value
                .and_then(|v| u32::try_from(v).ok())
                .filter(|v| *v > 0)
                .unwrap_or(default)
        };
        Timings {
            initial_delay: seconds(probe.initial_delay_seconds, 0),
            period: positive(seconds(probe.period_seconds, 10), 10),
            timeout: positive(seconds(probe.timeout_seconds, 1), 1),
            successes: count(probe.success_threshold, 1),
            failures: count(probe.failure_threshold, 3),
        }
    }
}

/// Counts answers in a row.
#[derive(Clone, Debug)]
pub struct Machine {
    timings: Timings,
    /// The verdict in force; `None` before the first.
    verdict: Option<bool>,
    last: Option<bool>,
    run: u32,
}

impl Machine {
    /// A machine that has heard nothing; `verdict` is what holds until it has.
    pub fn new(timings: Timings, verdict: Option<bool>) -> Machine {
        Machine {
            timings,
            verdict,
            last: None,
            run: 0,
        }
    }

    /// Takes an answer; returns the new verdict if it changed.
    pub fn answer(&mut self, good: bool) -> Option<bool> {
        if self.last == Some(good) {
            self.run = self.run.saturating_add(1);
        } else {
            (self.last, self.run) = (Some(good), 1);
        }
        let threshold = if good {
            self.timings.successes
        } else {
            self.timings.failures
        };
        if self.run < threshold || self.verdict == Some(good) {
            return None;
        }
        self.verdict = Some(good);
        Some(good)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(successes: u32, failures: u32, verdict: Option<bool>) -> Machine {
        let mut timings = Timings::of(&Probe::default());
        (timings.successes, timings.failures) = (successes, failures);
        Machine::new(timings, verdict)
    }

    #[test]
    fn thresholds_count_answers_in_a_row() {
        let mut readiness = machine(2, 3, Some(false));
        let answers = [
            true, false, true, true, false, false, true, false, false, false, true, true,
        ];
        let verdicts: Vec<Option<bool>> = answers.iter().map(|a| readiness.answer(*a)).collect();
        let mut expected = vec![None; 12];
        (expected[3], expected[9], expected[11]) = (Some(true), Some(false), Some(true));
        assert_eq!(verdicts, expected);
    }

    #[test]
    fn liveness_is_alive_until_proved_otherwise() {
        let mut liveness = machine(1, 2, Some(true));
        assert_eq!(liveness.answer(true), None);
        assert_eq!(liveness.answer(false), None);
        assert_eq!(liveness.answer(false), Some(false));
    }

    #[test]
    fn defaults() {
        let timings = Timings::of(&Probe::default());
        assert_eq!(
            (timings.period, timings.timeout),
            (Duration::from_secs(10), Duration::from_secs(1))
        );
        assert_eq!(
            (timings.successes, timings.failures, timings.initial_delay),
            (1, 3, Duration::ZERO)
        );
    }
}
