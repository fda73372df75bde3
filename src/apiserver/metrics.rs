//! What the server counts, under the names Kubernetes uses.

mod about;
mod build;
mod extensions;
mod objects;
mod requests;
mod running;
mod store_calls;
mod watches;

use base::telemetry::{Metrics, Process};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

pub use about::About;
use about::{Aborted, Answered, Deprecated, Sort};
pub use extensions::Extensions;
pub use objects::Objects;
pub use requests::Answer;
use requests::Requests;
pub use running::Running;
pub use store_calls::{Operation, StoreCalls};
use watches::Watches;
pub use watches::{Sent, Watching};

/// What every server tells of itself, a witness as well.
pub fn register_process(metrics: &Metrics) {
    metrics.collect(Process);
    build::register(metrics);
}

/// The counters of the HTTP half.
pub struct HttpMetrics {
    requests: Requests,
    watches: Watches,
    /// Those that read and those that change something.
    inflight: [Gauge; 2],
    long_running: Family<About, Gauge>,
    terminated: Family<(About, Answered), Counter>,
    aborted: Family<Aborted, Counter>,
    deprecated: Family<Deprecated, Gauge>,
}

impl HttpMetrics {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let inflight: Family<Sort, Gauge> = metrics.add(
            "apiserver_current_inflight_requests",
            "Maximal number of currently used inflight request limit of this apiserver per request kind",
            Family::default(),
        );
        Self {
            requests: Requests::new(metrics),
            watches: Watches::new(metrics),
            inflight: ["readOnly", "mutating"]
                .map(|request_kind| inflight.get_or_create_owned(&Sort { request_kind })),
            long_running: metrics.add(
                "apiserver_longrunning_requests",
                "Gauge of all active long-running apiserver requests",
                Family::default(),
            ),
            terminated: metrics.add(
                "apiserver_request_terminations",
                "Number of requests which apiserver terminated in self-defense",
                Family::default(),
            ),
            aborted: metrics.add(
                "apiserver_request_aborts",
                "Number of requests which apiserver aborted possibly due to a timeout, for each group, version, \
                 verb, resource, subresource and scope",
                Family::default(),
            ),
            deprecated: metrics.add(
                "apiserver_requested_deprecated_apis",
                "Gauge of deprecated APIs that have been requested, broken out by API group, version, resource, \
                 subresource, and removed_release",
                Family::default(),
            ),
        }
    }

    /// Notes that a request was answered.
    pub fn answered(&self, about: &About, answer: Answer) {
        self.requests.answered(about, answer);
    }

    /// Notes that the server ended a request to defend itself, with that HTTP status.
    pub fn terminated(&self, about: &About, code: u16) {
        self.terminated.get_or_create(&(*about, Answered { code })).inc();
    }

    /// Notes that a request found no answer: whoever asked went away, or the answer broke off.
    pub fn aborted(&self, about: &About) {
        self.aborted.get_or_create(&about.into()).inc();
    }

    /// Notes that somebody asked for what is about to go.
    pub fn deprecated(&self, about: &About) {
        let labels = Deprecated {
            group: about.group,
            version: about.version,
            resource: about.resource,
            subresource: about.subresource,
            removed_release: "",
        };
        self.deprecated.get_or_create(&labels).set(1);
    }

    /// Counts a request as running until the guard is dropped.
    pub fn running(&self, mutating: bool) -> Running {
        let [reading, changing] = &self.inflight;
        Running::of(if mutating { changing } else { reading }.clone())
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

    /// Counts a stream as running until the guard is dropped.
    pub fn long_running(&self, about: &About) -> Running {
        Running::of(self.long_running.get_or_create(about).clone())
    }

    /// Counts a watch as running until the guard is dropped, for how long it did, and its events.
    pub fn watching(&self, about: &About) -> Watching {
        let mut running = self.long_running(about);
        running.lasting = Some(self.requests.lasting(about));
        Watching {
            running,
            sent: self.watches.of(&about.kind()),
        }
    }
}

#[cfg(test)]
mod tests;
