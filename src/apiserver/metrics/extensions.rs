//! Whether servers that extend the API can be reached.

use base::telemetry::Metrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Service {
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

/// The series, by the name of the APIService.
pub struct Extensions {
    unavailable: Family<Service, Gauge>,
    became: Family<(Service, Why), Counter>,
}

impl Extensions {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            unavailable: metrics.add(
                "aggregator_unavailable_apiservice",
                "Gauge of APIServices which are marked as unavailable broken down by APIService name",
                Family::default(),
            ),
            became: metrics.add(
                "aggregator_unavailable_apiservice",
                "Counter of APIServices which are marked as unavailable broken down by APIService name and reason",
                Family::default(),
            ),
        }
    }

    /// One was looked at, and was found well, or not for this reason.
    pub fn looked_at(&self, name: &str, found: Result<(), &'static str>) {
        let service = Service {
            name: name.to_owned(),
        };
        let before = self
            .unavailable
            .get_or_create(&service)
            .set(found.is_err().into());
        if let (Err(reason), 0) = (found, before) {
            self.became.get_or_create(&(service, Why { reason })).inc();
        }
    }

    /// One is not there any more.
    pub fn gone(&self, name: &str) {
        self.unavailable.remove(&Service {
            name: name.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_reached_is_told_and_each_loss_counted() {
        let metrics = Metrics::new();
        let extensions = Extensions::new(&metrics);
        for found in [
            Ok(()),
            Err("MissingEndpoints"),
            Err("MissingEndpoints"),
            Ok(()),
            Err("MissingEndpoints"),
        ] {
            extensions.looked_at("v1.a.io", found);
        }
        let text = metrics.encode_plain();
        for line in [
            "aggregator_unavailable_apiservice{name=\"v1.a.io\"} 1",
            "aggregator_unavailable_apiservice_total{name=\"v1.a.io\",reason=\"MissingEndpoints\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
        extensions.gone("v1.a.io");
        assert!(
            !metrics
                .encode_plain()
                .contains("aggregator_unavailable_apiservice{")
        );
    }
}
