//! What is counted of the answers to requests that are alike. The series are looked up once for each sort of request,
//! and not for each request: at tens of thousands a second that would be most of what counting costs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use base::telemetry::{Histogram, Metrics};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::about::{About, Answered, Dryness};

/// Seconds; Kubernetes' buckets for requests, and for those to its store.
pub const SECONDS: [f64; 23] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0,
    20.0, 30.0, 45.0, 60.0,
];
/// Seconds; those for what counts for service levels.
const SLI_SECONDS: [f64; 21] = [
    0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Bytes of an answer.
const BYTES: [f64; 7] = [1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];

/// A histogram for each set of labels.
pub type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// How a request went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Answer {
    /// The HTTP status.
    pub code: u16,
    /// Nothing came of it, as was asked for.
    pub dry_run: bool,
    /// How long it took; `None` for what has only begun: it counts when it ends, if ever.
    pub took: Option<Duration>,
    /// How much of this was waiting for its turn, and for webhooks.
    pub waited: Duration,
    /// How large the answer is, if that is known.
    pub bytes: Option<u64>,
}

/// The families, and what of them was looked up.
pub struct Requests {
    total: Family<((About, Dryness), Answered), Counter>,
    durations: Histograms<(About, Dryness)>,
    sli: Histograms<About>,
    sizes: Histograms<About>,
    // A std lock: nothing awaits while it is held.
    known: RwLock<HashMap<About, Arc<Series>>>,
}

impl Requests {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            total: metrics.add(
                "apiserver_request",
                "Counter of apiserver requests broken out for each verb, dry run value, group, version, \
                 resource, scope, component, and HTTP response code",
                Family::default(),
            ),
            durations: metrics.add(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, dry run value, group, version, \
                 resource, subresource, scope and component",
                Family::new_with_constructor(|| Histogram::new(&SECONDS)),
            ),
            sli: metrics.add(
                "apiserver_request_sli_duration_seconds",
                "Response latency distribution (not counting webhook duration and priority & fairness queue \
                 wait times) in seconds for each verb, group, version, resource, subresource, scope and component",
                Family::new_with_constructor(|| Histogram::new(&SLI_SECONDS)),
            ),
            sizes: metrics.add(
                "apiserver_response_sizes",
                "Response size distribution in bytes for each group, version, verb, resource, subresource, \
                 scope and component",
                Family::new_with_constructor(|| Histogram::new(&BYTES)),
            ),
            known: RwLock::default(),
        }
    }

    /// Notes that a request was answered.
    pub fn answered(&self, about: &About, answer: Answer) {
        self.of(about).answered(self, answer);
    }

    /// Takes the time of a request that lasts as long as the client likes, until what is returned is dropped.
    pub fn lasting(&self, about: &About) -> Lasting {
        Lasting {
            began: Instant::now(),
            durations: self.durations.get_or_create_owned(&(*about, Dryness::of(false))),
            sli: self.sli.get_or_create_owned(about),
        }
    }

    fn of(&self, about: &About) -> Arc<Series> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(series) = known.get(about) {
            return series.clone();
        }
        drop(known);
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(*about)
            .or_insert_with(|| Arc::new(Series::of(*about)))
            .clone()
    }
}

/// A request that is under way, and whose time counts once it ends.
pub struct Lasting {
    began: Instant,
    durations: Histogram,
    sli: Histogram,
}

impl Drop for Lasting {
    fn drop(&mut self) {
        let seconds = self.began.elapsed().as_secs_f64();
        self.durations.observe(seconds);
        self.sli.observe(seconds);
    }
}

/// Those of one sort of request; each comes into being with the first value, so that none is shown that has none.
struct Series {
    about: About,
    ok: OnceLock<Counter>,
    created: OnceLock<Counter>,
    durations: OnceLock<Histogram>,
    sli: OnceLock<Histogram>,
    sizes: OnceLock<Histogram>,
}

impl Series {
    fn of(about: About) -> Self {
        Self {
            about,
            ok: OnceLock::new(),
            created: OnceLock::new(),
            durations: OnceLock::new(),
            sli: OnceLock::new(),
            sizes: OnceLock::new(),
        }
    }

    fn answered(&self, all: &Requests, answer: Answer) {
        let (about, dry) = (&self.about, Dryness::of(answer.dry_run));
        let total = || {
            all.total
                .get_or_create_owned(&((*about, dry), Answered { code: answer.code }))
        };
        match (answer.code, answer.dry_run) {
            (200, false) => self.ok.get_or_init(total).inc(),
            (201, false) => self.created.get_or_init(total).inc(),
            _ => total().inc(),
        };
        if let Some(took) = answer.took {
            let durations = || all.durations.get_or_create_owned(&(*about, dry));
            let seconds = took.as_secs_f64();
            if answer.dry_run {
                durations().observe(seconds);
            } else {
                self.durations.get_or_init(durations).observe(seconds);
                let sli = self.sli.get_or_init(|| all.sli.get_or_create_owned(about));
                sli.observe(took.saturating_sub(answer.waited).as_secs_f64());
            }
        }
        // What changes something answers with what it was sent.
        if let Some(bytes) = answer.bytes.filter(|_| matches!(about.verb, "GET" | "LIST")) {
            let sizes = self.sizes.get_or_init(|| all.sizes.get_or_create_owned(about));
            sizes.observe(bytes as f64);
        }
    }
}
