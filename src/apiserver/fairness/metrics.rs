//! What flow control counts, under Kubernetes' names (`apiserver_flowcontrol_…`).

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::demand::Measured;
use super::limits::Nominal;
use super::queues::Refusal;

/// Seconds.
const BUCKETS: [f64; 14] = [
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0,
];

type Real = Gauge<f64, AtomicU64>;
type Times<L> = Family<L, Histogram, fn() -> Histogram>;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfLevel {
    priority_level: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfFlow {
    priority_level: String,
    flow_schema: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Turned {
    priority_level: String,
    flow_schema: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Waited {
    priority_level: String,
    flow_schema: String,
    execute: &'static str,
}

/// All series of flow control.
pub struct Series {
    dispatched: Family<OfFlow, Counter>,
    rejected: Family<Turned, Counter>,
    waiting: Family<OfFlow, Gauge>,
    waiting_seats: Family<OfFlow, Gauge>,
    executing: Family<OfFlow, Gauge>,
    executing_seats: Family<OfFlow, Gauge>,
    waits: Times<Waited>,
    runs: Times<OfFlow>,
    levels: [Family<OfLevel, Real>; 10],
    fraction: Real,
}

/// The series of the requests of one schema. Made when the schema is read, so that a request looks nothing up.
pub struct Counts {
    of: OfFlow,
    rejected: Family<Turned, Counter>,
    dispatched: Counter,
    waiting: Gauge,
    waiting_seats: Gauge,
    executing: Gauge,
    executing_seats: Gauge,
    waited: Histogram,
    waited_in_vain: Histogram,
    ran: Histogram,
}

/// The series of one level, in the order of [`LEVEL_SERIES`].
pub struct LevelGauges([Real; 10]);

/// Names and meaning of the series that each level has.
const LEVEL_SERIES: [(&str, &str); 10] = [
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
];

impl Series {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let name = |name: &str| format!("apiserver_flowcontrol_{name}");
        let gauge = |of: &str, help: &str| metrics.add(&name(of), help, Family::default());
        let times = || Histogram::new(BUCKETS);
        let levels = LEVEL_SERIES.map(|(of, help)| metrics.add(&name(of), help, Family::default()));
        Self {
            dispatched: metrics.add(
                &name("dispatched_requests"),
                "Number of requests executed by API Priority and Fairness subsystem",
                Family::default(),
            ),
            rejected: metrics.add(
                &name("rejected_requests"),
                "Number of requests rejected by API Priority and Fairness subsystem",
                Family::default(),
            ),
            waiting: gauge(
                "current_inqueue_requests",
                "Number of requests currently pending in queues",
            ),
            waiting_seats: gauge(
                "current_inqueue_seats",
                "Number of seats currently pending in queues",
            ),
            executing: gauge(
                "current_executing_requests",
                "Number of requests in regular execution phase",
            ),
            executing_seats: gauge(
                "current_executing_seats",
                "Concurrency (number of seats) occupied by requests",
            ),
            waits: metrics.add(
                &name("request_wait_duration_seconds"),
                "Length of time a request spent waiting in its queue",
                Family::new_with_constructor(times),
            ),
            runs: metrics.add(
                &name("request_execution_seconds"),
                "Duration of regular phase of request execution",
                Family::new_with_constructor(times),
            ),
            levels,
            fraction: metrics.add(
                &name("seat_fair_frac"),
                "Fair fraction of server's concurrency to allocate to each priority level that can use it",
                Real::default(),
            ),
        }
    }

    /// Those of a schema.
    pub fn of_flow(&self, level: &str, schema: &str) -> Counts {
        let of = OfFlow {
            priority_level: level.to_owned(),
            flow_schema: schema.to_owned(),
        };
        let waits = |execute| {
            self.waits.get_or_create_owned(&Waited {
                priority_level: level.to_owned(),
                flow_schema: schema.to_owned(),
                execute,
            })
        };
        Counts {
            rejected: self.rejected.clone(),
            dispatched: self.dispatched.get_or_create_owned(&of),
            waiting: self.waiting.get_or_create_owned(&of),
            waiting_seats: self.waiting_seats.get_or_create_owned(&of),
            executing: self.executing.get_or_create_owned(&of),
            executing_seats: self.executing_seats.get_or_create_owned(&of),
            waited: waits("true"),
            waited_in_vain: waits("false"),
            ran: self.runs.get_or_create_owned(&of),
            of,
        }
    }

    /// Those of a level.
    pub fn of_level(&self, level: &str) -> LevelGauges {
        let of = OfLevel {
            priority_level: level.to_owned(),
        };
        LevelGauges(
            self.levels
                .each_ref()
                .map(|family| family.get_or_create_owned(&of)),
        )
    }

    /// The fraction of their targets that all levels were given.
    pub fn fraction(&self, fraction: f64) {
        self.fraction.set(fraction);
    }
}

impl Counts {
    /// A request has its seats.
    pub fn seated(&self, width: u64, waited: Duration) {
        self.dispatched.inc();
        self.waited.observe(waited.as_secs_f64());
        self.executing.inc();
        self.executing_seats.inc_by(width as i64);
    }

    /// A request's answer is made.
    pub fn answered(&self, took: Duration) {
        self.executing.dec();
        self.ran.observe(took.as_secs_f64());
    }

    /// A request has given its seats back.
    pub fn left(&self, width: u64) {
        self.executing_seats.dec_by(width as i64);
    }

    /// A request waits.
    pub fn waits(&self, width: u64) {
        self.waiting.inc();
        self.waiting_seats.inc_by(width as i64);
    }

    /// A request waits no longer.
    pub fn waited(&self, width: u64) {
        self.waiting.dec();
        self.waiting_seats.dec_by(width as i64);
    }

    /// A request is turned away.
    pub fn refused(&self, why: Refusal, waited: Duration) {
        let turned = Turned {
            priority_level: self.of.priority_level.clone(),
            flow_schema: self.of.flow_schema.clone(),
            reason: why.label(),
        };
        self.rejected.get_or_create(&turned).inc();
        self.waited_in_vain.observe(waited.as_secs_f64());
    }

    /// How many requests had their seats, and how many were turned away for each reason.
    pub fn totals(&self) -> (u64, [u64; 3]) {
        let refused = |why: Refusal| {
            let turned = Turned {
                priority_level: self.of.priority_level.clone(),
                flow_schema: self.of.flow_schema.clone(),
                reason: why.label(),
            };
            self.rejected.get(&turned).map_or(0, |counter| counter.get())
        };
        let reasons = [Refusal::ConcurrencyLimit, Refusal::QueueFull, Refusal::TimeOut];
        (self.dispatched.get(), reasons.map(refused))
    }
}

impl LevelGauges {
    /// What the level is given by its object.
    pub fn configured(&self, nominal: Nominal) {
        let most = nominal.most as f64;
        let values = [nominal.own as f64, nominal.least as f64, most];
        for (gauge, value) in self.0.iter().zip(values) {
            gauge.set(value);
        }
        self.0[9].set(nominal.own as f64);
    }

    /// What it has now.
    pub fn limit(&self, seats: u64) {
        self.0[3].set(seats as f64);
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
        for (gauge, value) in self.0[4..].iter().zip(values) {
            gauge.set(value);
        }
    }
}
