//! What is counted of decisions, under Kubernetes' names.

use std::time::Duration;

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::Decision;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decided {
    r#type: String,
    name: String,
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    name: String,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    result: &'static str,
}

type Times<L> = Family<L, Histogram, fn() -> Histogram>;

/// The series of all decisions.
#[derive(Clone)]
pub struct Tally {
    decisions: Family<Decided, Counter>,
    evaluations: Family<Asked, Counter>,
    evaluation_times: Times<Asked>,
    failed_open: Family<Asked, Counter>,
    attempts: Family<Result, Counter>,
    times: Times<Result>,
}

/// Those of one who decides, made when it is configured, so that a decision looks nothing up.
pub struct Votes {
    allowed: Counter,
    denied: Counter,
}

impl Tally {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let times = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        Self {
            decisions: metrics.add(
                "apiserver_authorization_decisions",
                "Total number of terminal decisions made by an authorizer split by authorizer type, name, and decision",
                Family::default(),
            ),
            evaluations: metrics.add(
                "apiserver_authorization_webhook_evaluations",
                "Round-trips to authorization webhooks",
                Family::default(),
            ),
            evaluation_times: metrics.add(
                "apiserver_authorization_webhook_duration_seconds",
                "Request latency in seconds",
                Family::new_with_constructor(times),
            ),
            failed_open: metrics.add(
                "apiserver_authorization_webhook_evaluations_fail_open",
                "NoOpinion results due to webhook timeout or error",
                Family::default(),
            ),
            attempts: metrics.add(
                "authorization_attempts",
                "Counter of authorization attempts broken down by result. It can be either \"allowed\", \"denied\", \
                 \"no-opinion\" or \"error\"",
                Family::default(),
            ),
            times: metrics.add(
                "authorization_duration_seconds",
                "Authorization duration in seconds broken out by result",
                Family::new_with_constructor(times),
            ),
        }
    }

    /// Those of one who decides.
    pub fn votes(&self, sort: &str, name: &str) -> Votes {
        let of = |decision| {
            self.decisions.get_or_create_owned(&Decided {
                r#type: sort.to_owned(),
                name: name.to_owned(),
                decision,
            })
        };
        Votes {
            allowed: of("allowed"),
            denied: of("denied"),
        }
    }

    /// A webhook was asked, and said so (`success`, `timeout`, `canceled`, `error`), or nothing.
    pub fn evaluated(&self, name: &str, result: &'static str, took: Duration, failed_open: bool) {
        let of = Asked {
            name: name.to_owned(),
            result,
        };
        self.evaluations.get_or_create(&of).inc();
        self.evaluation_times
            .get_or_create(&of)
            .observe(took.as_secs_f64());
        if failed_open {
            self.failed_open.get_or_create(&of).inc();
        }
    }

    /// It is decided.
    pub fn decided(&self, decision: &Decision, took: Duration) {
        let result = match decision {
            Decision { allowed: true, .. } => "allowed",
            Decision { broken: true, .. } => "error",
            Decision { denied: true, .. } => "denied",
            _ => "no-opinion",
        };
        let of = Result { result };
        self.attempts.get_or_create(&of).inc();
        self.times.get_or_create(&of).observe(took.as_secs_f64());
    }
}

impl Votes {
    /// What this one said, if that ends the matter.
    pub fn count(&self, decision: &Decision) {
        if decision.allowed {
            self.allowed.inc();
        } else if decision.denied {
            self.denied.inc();
        }
    }
}
