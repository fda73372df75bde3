//! What is counted of calls to the store, under the names that Kubernetes has for those to etcd.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Instant;

use base::telemetry::{Histogram, Metrics};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::requests::{Histograms, SECONDS};
use crate::stored;

/// What the store is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// To read one object.
    Get,
    /// To read several.
    List,
    /// To write one that is new.
    Create,
    /// To write another.
    Update,
    /// To remove one.
    Delete,
}

impl Operation {
    const ALL: [Self; 5] = [Self::Get, Self::List, Self::Create, Self::Update, Self::Delete];

    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::List => "list",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    operation: &'static str,
    group: String,
    resource: String,
}

/// The series of calls. Clones count together; those that are registered nowhere count for nobody.
#[derive(Clone)]
pub struct StoreCalls(Arc<Inner>);

struct Inner {
    durations: Histograms<Labels>,
    total: Family<Labels, Counter>,
    errors: Family<Labels, Counter>,
    // A std lock: nothing awaits while it is held. By the beginning of the key that names the resource.
    known: RwLock<HashMap<String, Arc<[Call; 5]>>>,
}

struct Call {
    labels: Labels,
    /// Looked up with the first call, so that nothing is shown that was never called.
    series: OnceLock<(Histogram, Counter)>,
}

impl Default for StoreCalls {
    fn default() -> Self {
        Self(Arc::new(Inner {
            durations: Family::new_with_constructor(|| Histogram::new(&SECONDS)),
            total: Family::default(),
            errors: Family::default(),
            known: RwLock::default(),
        }))
    }
}

impl StoreCalls {
    /// Registers them.
    pub fn new(metrics: &Metrics) -> Self {
        let calls = Self::default();
        let inner = &calls.0;
        metrics.add(
            "etcd_request_duration_seconds",
            "Etcd request latency in seconds for each operation and object type",
            inner.durations.clone(),
        );
        metrics.add(
            "etcd_requests",
            "Etcd request counts for each operation and object type",
            inner.total.clone(),
        );
        metrics.add(
            "etcd_request_errors",
            "Etcd failed request counts for each operation and object type",
            inner.errors.clone(),
        );
        calls
    }

    /// A call about a key, or about all under it, which begins now.
    pub fn begin(&self, operation: Operation, key: &str) -> Begun<'_> {
        Begun {
            errors: &self.0.errors,
            durations: &self.0.durations,
            total: &self.0.total,
            calls: self.of(key),
            operation,
            began: Instant::now(),
        }
    }

    fn of(&self, key: &str) -> Arc<[Call; 5]> {
        let collection = stored::collection(key);
        let known = self.0.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(calls) = known.get(collection) {
            return calls.clone();
        }
        drop(known);
        let (group, resource) = stored::resource(collection);
        let calls = Operation::ALL.map(|operation| Call {
            labels: Labels {
                operation: operation.name(),
                group: group.to_owned(),
                resource: resource.to_owned(),
            },
            series: OnceLock::new(),
        });
        let mut known = self.0.known.write().unwrap_or_else(PoisonError::into_inner);
        known
            .entry(collection.to_owned())
            .or_insert_with(|| Arc::new(calls))
            .clone()
    }
}

/// A call that is on its way. One that is given up counts for nothing.
pub struct Begun<'c> {
    errors: &'c Family<Labels, Counter>,
    durations: &'c Histograms<Labels>,
    total: &'c Family<Labels, Counter>,
    calls: Arc<[Call; 5]>,
    operation: Operation,
    began: Instant,
}

impl Begun<'_> {
    /// Notes that it has ended, `well` or not.
    pub fn ended(self, well: bool) {
        let Some(call) = self.calls.get(self.operation as usize) else {
            return;
        };
        let (durations, total) = call.series.get_or_init(|| {
            let of = &call.labels;
            (
                self.durations.get_or_create_owned(of),
                self.total.get_or_create_owned(of),
            )
        });
        durations.observe(self.began.elapsed().as_secs_f64());
        total.inc();
        if !well {
            self.errors.get_or_create(&call.labels).inc();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_resource() {
        let metrics = Metrics::new();
        let calls = StoreCalls::new(&metrics);
        calls.begin(Operation::Get, "/core/pods/a/web").ended(true);
        calls.begin(Operation::Get, "/core/pods/b/db").ended(false);
        calls.begin(Operation::List, "/apps/deployments/").ended(true);
        let text = metrics.encode_plain();
        for line in [
            "etcd_requests_total{operation=\"get\",group=\"\",resource=\"pods\"} 2",
            "etcd_request_errors_total{operation=\"get\",group=\"\",resource=\"pods\"} 1",
            "etcd_requests_total{operation=\"list\",group=\"apps\",resource=\"deployments\"} 1",
            "etcd_request_duration_seconds_bucket{le=\"60\",operation=\"get\",group=\"\",resource=\"pods\"} 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
