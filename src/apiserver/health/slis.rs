//! What service levels are made of (`/metrics/slis`): how each check went, whenever somebody asked for all of them.

use base::telemetry::{Metrics, StartTime};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Check {
    name: String,
    r#type: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Result {
    status: &'static str,
}

/// The series, in a registry of their own.
pub struct Slis {
    metrics: Metrics,
    now: Family<Check, Gauge>,
    total: Family<(Check, Result), Counter>,
}

impl Default for Slis {
    fn default() -> Self {
        let metrics = Metrics::new();
        metrics.collect(StartTime);
        Self {
            now: metrics.add(
                "kubernetes_healthcheck",
                "This metric records the result of a single healthcheck",
                Family::default(),
            ),
            total: metrics.add(
                "kubernetes_healthchecks",
                "This metric records the results of all healthcheck",
                Family::default(),
            ),
            metrics,
        }
    }
}

impl Slis {
    /// Where they are registered.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A check for that probe was `well`, or not.
    pub fn saw(&self, name: &str, probe: &'static str, well: bool) {
        let check = Check {
            name: name.to_owned(),
            r#type: probe,
        };
        let status = if well { "success" } else { "error" };
        self.now.get_or_create(&check).set(well.into());
        self.total.get_or_create(&(check, Result { status })).inc();
    }
}
