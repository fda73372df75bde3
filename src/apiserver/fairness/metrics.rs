//! What flow control counts, under Kubernetes' names (`apiserver_flowcontrol_…`). `epoch_advance_total` is not among
//! them: virtual time is a floating-point number here, and never has to be set back.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::queues::Refusal;
use super::timing::{Fraction, Fractions, Making};
use super::width::{Sort, Work};

mod levels;
mod names;

use levels::Real;
pub use levels::{Busy, LevelGauges, LevelSeries};
use names::{EXECUTING, WAITING, name};

/// Seconds.
const BUCKETS: [f64; 14] = [
    0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0, 60.0,
];

/// Requests in a queue.
const LENGTHS: [f64; 8] = [0.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0];
/// Watchers that are told of a write.
const WATCHERS: [f64; 6] = [0.0, 1.0, 10.0, 100.0, 1_000.0, 10_000.0];
/// Seats that a request takes.
const WIDTHS: [f64; 4] = [1.0, 2.0, 4.0, 10.0];
/// Fractions of the server.
const PARTS: [f64; 15] = [
    0.0, 0.001, 0.01, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0,
];

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ran {
    priority_level: String,
    flow_schema: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSort {
    phase: &'static str,
    request_kind: &'static str,
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
    runs: Times<Ran>,
    lengths: Times<OfFlow>,
    watchers: Times<OfFlow>,
    widths: Times<OfFlow>,
    held_up: Family<OfFlow, Counter>,
    parts: Parts,
    /// Those of the levels.
    pub levels: LevelSeries,
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
    ran: [Histogram; 2],
    lengths: Histogram,
    watchers: Histogram,
    widths: Histogram,
    held_up: Counter,
    parts: Parts,
}

/// The parts of the server that requests take which read, and which change something: those that wait and those that
/// are carried out.
#[derive(Clone)]
struct Parts {
    reading: [Fraction; 2],
    changing: [Fraction; 2],
}

impl Parts {
    fn new(all: &Fractions<OfSort>) -> Self {
        let of = |request_kind| {
            [WAITING, EXECUTING].map(|phase| all.get_or_create_owned(&OfSort { phase, request_kind }))
        };
        Self {
            reading: of("readOnly"),
            changing: of("mutating"),
        }
    }

    fn of(&self, sort: Sort) -> &[Fraction; 2] {
        match sort {
            Sort::Reading | Sort::Watching => &self.reading,
            Sort::Changing => &self.changing,
        }
    }
}

impl Series {
    /// Registers them, for a server of so many seats.
    pub fn new(metrics: &Metrics, seats: u64, clock: &Arc<dyn Clock>) -> Self {
        let gauge = |of: &str, help: &str| metrics.add(&name(of), help, Family::default());
        let times = || Histogram::new(BUCKETS);
        let parts = metrics.add(
            &name("read_vs_write_current_requests"),
            "Number of requests waiting or executing, as a fraction of the server's limit, in each nanosecond",
            Fractions::new_with_constructor(Making::new(&PARTS, clock)),
        );
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
                "Duration of request execution; of a watch, until it has begun",
                Family::new_with_constructor(times),
            ),
            lengths: metrics.add(
                &name("request_queue_length_after_enqueue"),
                "Length of queue as seen by each request after it is enqueued",
                Family::new_with_constructor(|| Histogram::new(LENGTHS)),
            ),
            watchers: metrics.add(
                &name("watch_count_samples"),
                "Count of watchers for mutating requests",
                Family::new_with_constructor(|| Histogram::new(WATCHERS)),
            ),
            widths: metrics.add(
                &name("work_estimated_seats"),
                "Number of estimated seats associated with requests",
                Family::new_with_constructor(|| Histogram::new(WIDTHS)),
            ),
            held_up: metrics.add(
                &name("request_dispatch_no_accommodation"),
                "Number of times a request whose turn it was could not be dispatched for lack of seats",
                Family::default(),
            ),
            parts: Parts::new(&parts),
            levels: LevelSeries::new(metrics, seats, clock),
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
        let ran = |r#type| {
            self.runs.get_or_create_owned(&Ran {
                priority_level: level.to_owned(),
                flow_schema: schema.to_owned(),
                r#type,
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
            ran: [ran("regular"), ran("watch")],
            lengths: self.lengths.get_or_create_owned(&of),
            watchers: self.watchers.get_or_create_owned(&of),
            widths: self.widths.get_or_create_owned(&of),
            held_up: self.held_up.get_or_create_owned(&of),
            parts: self.parts.clone(),
            of,
        }
    }

    /// So many requests may wait, and so many seats there are, in all levels together.
    pub fn limits(&self, room: usize, seats: u64, now: Duration) {
        for [waiting, executing] in [&self.parts.reading, &self.parts.changing] {
            waiting.of(room.max(1) as f64, now);
            executing.of(seats.max(1) as f64, now);
        }
    }

    /// The fraction of their targets that all levels were given.
    pub fn fraction(&self, fraction: f64) {
        self.fraction.set(fraction);
    }
}

impl Counts {
    /// A request comes.
    pub fn came(&self, work: Work) {
        self.widths.observe(work.width as f64);
    }

    /// A request has its seats.
    pub fn seated(&self, work: Work, waited: Duration, now: Duration) {
        self.dispatched.inc();
        self.waited.observe(waited.as_secs_f64());
        self.executing.inc();
        self.executing_seats.inc_by(work.width as i64);
        self.parts.of(work.sort)[1].add(1.0, now);
    }

    /// A request's answer is made.
    pub fn answered(&self, work: Work, took: Duration, now: Duration) {
        self.executing.dec();
        let [regular, watch] = &self.ran;
        let ran = if work.sort == Sort::Watching {
            watch
        } else {
            regular
        };
        ran.observe(took.as_secs_f64());
        self.parts.of(work.sort)[1].add(-1.0, now);
    }

    /// A request has given its seats back.
    pub fn left(&self, width: u64) {
        self.executing_seats.dec_by(width as i64);
    }

    /// A request waits, in a queue in which so many wait with it.
    pub fn waits(&self, work: Work, length: usize, now: Duration) {
        self.waiting.inc();
        self.waiting_seats.inc_by(work.width as i64);
        self.lengths.observe(length as f64);
        self.parts.of(work.sort)[0].add(1.0, now);
    }

    /// A request waits no longer.
    pub fn waited(&self, work: Work, now: Duration) {
        self.waiting.dec();
        self.waiting_seats.dec_by(work.width as i64);
        self.parts.of(work.sort)[0].add(-1.0, now);
    }

    /// It would be this request's turn, if there were room for it.
    pub fn held_up(&self) {
        self.held_up.inc();
    }

    /// A write comes of which so many watchers will be told.
    pub fn told(&self, watchers: u64) {
        self.watchers.observe(watchers as f64);
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
