//! What is counted of each priority level.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base::Clock;
use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::names::{EXECUTING, WAITING, name};
use crate::fairness::demand::Measured;
use crate::fairness::limits::Nominal;
use crate::fairness::queues::{Dispatch, Shape};
use crate::fairness::timing::{Fraction, Fractions, Making};

pub type Real = Gauge<f64, AtomicU64>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfBound {
    priority_level: String,
    bound: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPhase {
    phase: &'static str,
    priority_level: String,
}

/// Upper bounds of the fractions of requests, of seats and of demand.
const REQUESTS: [f64; 10] = [0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.25, 0.5, 0.75, 1.0];
const SEATS: [f64; 13] = [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0];
const DEMAND: [f64; 12] = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.7, 2.0, 2.8, 4.0, 6.0];

/// Names and meaning of the numbers that each level has.
const GAUGES: [(&str, &str); 13] = [
    (
        "nominal_limit_seats",
        "Nominal number of execution seats configured for each priority level",
    ),
    (
        "lower_limit_seats",
        "Configured lower bound on number of execution seats available to each priority level",
    ),
    (
        "upper_limit_seats",
        "Configured upper bound on number of execution seats available to each priority level",
    ),
    (
        "current_limit_seats",
        "Current derived number of execution seats available to each priority level",
    ),
    (
        "demand_seats_high_watermark",
        "High watermark of demand for seats over the last adjustment period",
    ),
    (
        "demand_seats_average",
        "Time-weighted average of demand for seats over the last adjustment period",
    ),
    (
        "demand_seats_stdev",
        "Time-weighted standard deviation of demand for seats over the last adjustment period",
    ),
    ("demand_seats_smoothed", "Smoothed seat demands"),
    ("target_seats", "Seat allocation targets"),
    (
        "request_concurrency_limit",
        "Nominal number of execution seats configured for each priority level",
    ),
    ("current_r", "Virtual time at the last change"),
    ("dispatch_r", "Virtual time when a request was dispatched last"),
    (
        "latest_s",
        "Virtual start time of the request that was dispatched last",
    ),
];

/// The series of all levels.
pub struct LevelSeries {
    gauges: [Family<OfLevel, Real>; 13],
    starts: Family<OfBound, Real>,
    discounted: Family<OfBound, Real>,
    requests: Fractions<OfPhase>,
    seats: Fractions<OfPhase>,
    demand: Fractions<OfLevel>,
    /// What a level's part is measured by that has no seats of its own.
    unlimited: f64,
}

/// The series of one level.
pub struct LevelGauges {
    /// In the order of [`GAUGES`].
    gauges: [Real; 13],
    starts: [Real; 2],
    discounted: [Real; 2],
    waiting: Fraction,
    executing: Fraction,
    seats: Fraction,
    demand: Fraction,
    unlimited: f64,
}

/// How much goes on in a level.
#[derive(Clone, Copy, Debug)]
pub struct Busy {
    /// Requests that have seats, and requests that wait.
    pub requests: (usize, usize),
    /// Seats that are taken, and seats that are waited for.
    pub seats: (u64, u64),
}

impl LevelSeries {
    /// Registers them, for a server of so many seats.
    pub fn new(metrics: &Metrics, seats: u64, clock: &Arc<dyn Clock>) -> Self {
        let bounds = |of: &str, help: &str| metrics.add(&name(of), help, Family::default());
        Self {
            gauges: GAUGES.map(|(of, help)| metrics.add(&name(of), help, Family::default())),
            starts: bounds(
                "next_s_bounds",
                "Least and greatest virtual start time of the oldest requests in queues",
            ),
            discounted: bounds(
                "next_discounted_s_bounds",
                "Least and greatest virtual start time of the oldest requests in queues, less the estimated work in \
                 progress",
            ),
            requests: metrics.add(
                &name("priority_level_request_utilization"),
                "Number of requests waiting or executing, as a fraction of the queues' room or of the seats, in each \
                 nanosecond",
                Fractions::new_with_constructor(Making::new(&REQUESTS, clock)),
            ),
            seats: metrics.add(
                &name("priority_level_seat_utilization"),
                "Seats taken, as a fraction of the current limit, in each nanosecond",
                Fractions::new_with_constructor(Making::new(&SEATS, clock)),
            ),
            demand: metrics.add(
                &name("demand_seats"),
                "Seats that could be used, as a fraction of the current limit, in each nanosecond",
                Fractions::new_with_constructor(Making::new(&DEMAND, clock)),
            ),
            unlimited: (seats as f64 / 10.0).round().max(1.0),
        }
    }

    /// Those of a level.
    pub fn of(&self, level: &str) -> LevelGauges {
        let priority_level = || level.to_owned();
        let of = OfLevel {
            priority_level: priority_level(),
        };
        let phase = |phase| OfPhase {
            phase,
            priority_level: priority_level(),
        };
        let both = |family: &Family<OfBound, Real>| {
            ["min", "max"].map(|bound| {
                family.get_or_create_owned(&OfBound {
                    priority_level: priority_level(),
                    bound,
                })
            })
        };
        LevelGauges {
            gauges: self
                .gauges
                .each_ref()
                .map(|family| family.get_or_create_owned(&of)),
            starts: both(&self.starts),
            discounted: both(&self.discounted),
            waiting: self.requests.get_or_create_owned(&phase(WAITING)),
            executing: self.requests.get_or_create_owned(&phase(EXECUTING)),
            seats: self.seats.get_or_create_owned(&phase(EXECUTING)),
            demand: self.demand.get_or_create_owned(&of),
            unlimited: self.unlimited,
        }
    }
}

impl LevelGauges {
    /// What the level is given by its object.
    pub fn configured(&self, nominal: Nominal, shape: Shape, now: Duration) {
        let values = [nominal.own, nominal.least, nominal.most];
        for (gauge, value) in self.gauges.iter().zip(values) {
            gauge.set(value as f64);
        }
        self.gauges[9].set(nominal.own as f64);
        self.waiting.of(shape.room().max(1) as f64, now);
    }

    /// What it has now.
    pub fn limit(&self, seats: u64, now: Duration) {
        self.gauges[3].set(seats as f64);
        let whole = if seats > 0 { seats as f64 } else { self.unlimited };
        for fraction in [&self.executing, &self.seats, &self.demand] {
            fraction.of(whole, now);
        }
    }

    /// What it wanted.
    pub fn wanted(&self, measured: Measured, smoothed: f64, target: f64) {
        let values = [
            measured.highest,
            measured.average,
            measured.deviation,
            smoothed,
            target,
        ];
        for (gauge, value) in self.gauges[4..].iter().zip(values) {
            gauge.set(value);
        }
    }

    /// What goes on in it from now on.
    pub fn busy(&self, busy: Busy, now: Duration) {
        let ((executing, waiting), (taken, wanted)) = (busy.requests, busy.seats);
        self.waiting.set(waiting as f64, now);
        self.executing.set(executing as f64, now);
        self.seats.set(taken as f64, now);
        self.demand.set((taken + wanted) as f64, now);
    }

    /// How far fair queueing has come.
    pub fn progress(&self, (virtual_now, last): (f64, Dispatch)) {
        for (gauge, value) in self.gauges[10..].iter().zip([virtual_now, last.now, last.start]) {
            gauge.set(value);
        }
        for ([least, greatest], bounds) in [(&self.starts, last.starts), (&self.discounted, last.discounted)]
        {
            least.set(bounds.0);
            greatest.set(bounds.1);
        }
    }
}
