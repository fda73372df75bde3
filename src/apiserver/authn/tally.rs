//! What is counted of credentials, under Kubernetes' names.

use std::sync::OnceLock;
use std::time::Duration;

use api::request::User;
use base::telemetry::{self, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Outcome {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Name {
    username: &'static str,
}

/// Seconds that a client's certificate still has: from half an hour to a year.
const REMAINING: [f64; 14] = [
    0.0,
    1800.0,
    3600.0,
    7200.0,
    21600.0,
    43200.0,
    86400.0,
    172_800.0,
    345_600.0,
    604_800.0,
    2_592_000.0,
    7_776_000.0,
    15_552_000.0,
    31_104_000.0,
];

/// The series. The counters are gauges to the library, which would put `_total` behind names that do not have it.
pub struct Tally {
    attempts: Family<Outcome, Gauge>,
    users: Family<Name, Gauge>,
    times: Family<Outcome, Histogram, fn() -> Histogram>,
    /// Those of a failure and of a success, so that not every request looks them up.
    outcomes: [OnceLock<(Gauge, Histogram)>; 2],
    remaining: telemetry::Histogram,
}

impl Tally {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let times = || Histogram::new(exponential_buckets(0.001, 2.0, 15));
        Self {
            attempts: metrics.add(
                "authentication_attempts",
                "Counter of authenticated attempts",
                Family::default(),
            ),
            users: metrics.add(
                "authenticated_user_requests",
                "Counter of authenticated requests broken out by username",
                Family::default(),
            ),
            times: metrics.add(
                "authentication_duration_seconds",
                "Authentication duration in seconds broken out by result",
                Family::new_with_constructor(times),
            ),
            outcomes: Default::default(),
            remaining: metrics.add(
                "apiserver_client_certificate_expiration_seconds",
                "Distribution of the remaining lifetime on the certificate used to authenticate a request",
                telemetry::Histogram::new(&REMAINING),
            ),
        }
    }

    /// Somebody is known by a certificate that ends in so many seconds.
    pub fn by_certificate(&self, remaining_seconds: i64) {
        self.remaining.observe(remaining_seconds as f64);
    }

    /// Somebody is known, or is not.
    pub fn known(&self, user: Option<&User>, took: Duration) {
        let [failure, success] = &self.outcomes;
        let (series, result) = match user {
            Some(_) => (success, "success"),
            None => (failure, "error"),
        };
        let (attempts, times) = series.get_or_init(|| {
            let outcome = Outcome { result };
            let attempts = self.attempts.get_or_create_owned(&outcome);
            (attempts, self.times.get_or_create_owned(&outcome))
        });
        attempts.inc();
        times.observe(took.as_secs_f64());
        if let Some(user) = user {
            let username = sort(&user.name);
            self.users.get_or_create(&Name { username }).inc();
        }
    }
}

/// What a user is counted as: names are theirs to choose, and must not become series.
fn sort(name: &str) -> &'static str {
    match name {
        "admin" => "admin",
        "client" => "client",
        "kube_proxy" => "kube_proxy",
        "kubelet" => "kubelet",
        "system:serviceaccount:kube-system:default" => "system:serviceaccount:kube-system:default",
        name if name.contains('@') => "email_id",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_counted_without_their_names() {
        let metrics = Metrics::new();
        let tally = Tally::new(&metrics);
        for name in ["jane@example.com", "joe@example.com", "system:node:a"] {
            tally.known(Some(&User::new(name, &[])), Duration::from_millis(1));
        }
        tally.known(None, Duration::ZERO);
        let text = metrics.encode();
        for line in [
            "authenticated_user_requests{username=\"email_id\"} 2",
            "authenticated_user_requests{username=\"other\"} 1",
            "authentication_attempts{result=\"success\"} 3",
            "authentication_attempts{result=\"error\"} 1",
        ] {
            assert!(text.contains(line), "{line}: {text}");
        }
    }
}
