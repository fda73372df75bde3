//! What the HTTP half counts, under the names Kubernetes uses.

use std::time::Duration;

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

/// What a request was about; none of it comes from the client's free choice, so that the
/// number of series stays bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct About {
    /// RBAC verb in capitals, `LIST`, `WATCH`, or `CONNECT` for streams.
    pub verb: &'static str,
    /// API group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Plural name; empty for other paths.
    pub resource: &'static str,
    /// Subresource, or the path for other paths.
    pub subresource: &'static str,
    /// `resource`, `namespace`, `cluster` or empty.
    pub scope: &'static str,
    /// Always `apiserver`.
    pub component: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    verb: &'static str,
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    subresource: &'static str,
    scope: &'static str,
    component: &'static str,
    code: u16,
    dry_run: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    request_kind: &'static str,
}

/// The buckets Kubernetes uses for request durations, in seconds.
const BUCKETS: [f64; 18] = [
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 60.0,
];

type Durations = Family<About, Histogram, fn() -> Histogram>;

/// The counters of the HTTP half.
#[derive(Clone)]
pub struct HttpMetrics {
    total: Family<Answered, Counter>,
    durations: Durations,
    inflight: Family<Kind, Gauge>,
    long_running: Family<About, Gauge>,
}

impl HttpMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let durations: Durations = Family::new_with_constructor(|| Histogram::new(BUCKETS));
        Self {
            total: metrics.add(
                "apiserver_request",
                "Counter of apiserver requests broken out for each verb, dry run value, group, version, \
                 resource, scope, component, and HTTP response code",
                Family::default(),
            ),
            durations: metrics.add(
                "apiserver_request_duration_seconds",
                "Response latency distribution in seconds for each verb, group, version, resource, \
                 subresource, scope and component",
                durations,
            ),
            inflight: metrics.add(
                "apiserver_current_inflight_requests",
                "Maximal number of currently used inflight request limit of this apiserver per request kind",
                Family::default(),
            ),
            long_running: metrics.add(
                "apiserver_longrunning_requests",
                "Gauge of all active long-running apiserver requests",
                Family::default(),
            ),
        }
    }

    /// Notes that a request was answered.
    pub fn answered(&self, about: &About, code: u16, dry_run: bool, took: Option<Duration>) {
        let answered = Answered {
            verb: about.verb,
            group: about.group,
            version: about.version,
            resource: about.resource,
            subresource: about.subresource,
            scope: about.scope,
            component: about.component,
            code,
            dry_run: if dry_run { "All" } else { "" },
        };
        self.total.get_or_create(&answered).inc();
        if let Some(took) = took {
            self.durations.get_or_create(about).observe(took.as_secs_f64());
        }
    }

    /// Counts a request as running until the guard is dropped.
    pub fn running(&self, mutating: bool) -> Running {
        let kind = if mutating { "mutating" } else { "readOnly" };
        Running::of(self.inflight.get_or_create(&Kind { request_kind: kind }).clone())
    }

    /// How many watches there are of all objects of the kind that a request is about.
    pub fn watchers(&self, about: &About) -> u64 {
        let watch = About {
            verb: "WATCH",
            scope: "cluster",
            subresource: "",
            ..*about
        };
        let found = self.long_running.get(&watch).map(|gauge| gauge.get());
        u64::try_from(found.unwrap_or_default()).unwrap_or_default()
    }

    /// Counts a watch or stream as running until the guard is dropped.
    pub fn long_running(&self, about: &About) -> Running {
        Running::of(self.long_running.get_or_create(about).clone())
    }
}

/// Counts one while it lives.
pub struct Running(Gauge);

impl Running {
    fn of(gauge: Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_have_kubernetes_names() {
        let metrics = Metrics::new();
        let http = HttpMetrics::new(&metrics);
        let about = About {
            verb: "LIST",
            resource: "pods",
            ..About::default()
        };
        http.answered(&about, 200, false, Some(Duration::from_millis(3)));
        let running = http.running(false);
        let all_pods = About {
            verb: "WATCH",
            scope: "cluster",
            ..about
        };
        let watching = http.long_running(&all_pods);
        assert_eq!(http.watchers(&about), 1);
        drop(watching);
        assert_eq!(http.watchers(&about), 0);
        let text = metrics.encode();
        assert!(text.contains("apiserver_request_total{verb=\"LIST\""), "{text}");
        assert!(
            text.contains("apiserver_request_duration_seconds_bucket{"),
            "{text}"
        );
        assert!(
            text.contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 1"),
            "{text}"
        );
        drop(running);
        assert!(
            metrics
                .encode()
                .contains("apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0")
        );
    }
}
