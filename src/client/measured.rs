//! Calls through the door, counted under the names that Kubernetes' own client has for them.

use std::sync::Arc;
use std::time::Instant;

use api::request::{EventStream, Reply, Request, Verb};
use api::status::Status;
use async_trait::async_trait;
use base::telemetry::{Histogram, Metrics};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use crate::{Api, ApiRef};

/// Seconds.
const SECONDS: [f64; 12] = [0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0];

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    code: u16,
    method: &'static str,
    host: Host,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    host: Host,
}

/// Where the API is; cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Host(Arc<str>);

impl EncodeLabelValue for Host {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.0.as_ref().encode(encoder)
    }
}

/// The API, every call of which is counted.
pub struct Measured {
    api: ApiRef,
    host: Host,
    total: Family<Answered, Counter>,
    durations: Family<Asked, Histogram, fn() -> Histogram>,
}

impl Measured {
    /// `api`, which is reached at `host` (`address:port`).
    pub fn wrap(api: ApiRef, host: &str, metrics: &Metrics) -> ApiRef {
        Arc::new(Self {
            api,
            host: Host(host.into()),
            total: metrics.add(
                "rest_client_requests",
                "Number of HTTP requests, partitioned by status code, method, and host",
                Family::default(),
            ),
            durations: metrics.add(
                "rest_client_request_duration_seconds",
                "Request latency in seconds. Broken down by verb, and host",
                Family::new_with_constructor(|| Histogram::new(&SECONDS)),
            ),
        })
    }

    fn answered(&self, verb: Verb, code: u16, began: Instant) {
        let (method, host) = (method(verb), self.host.clone());
        let asked = Asked {
            verb: method,
            host: host.clone(),
        };
        self.durations
            .get_or_create(&asked)
            .observe(began.elapsed().as_secs_f64());
        self.total.get_or_create(&Answered { code, method, host }).inc();
    }
}

fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Get | Verb::List | Verb::Watch => "GET",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch(_) => "PATCH",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
    }
}

#[async_trait]
impl Api for Measured {
    async fn call(&self, request: Request) -> Result<Reply, Status> {
        let (verb, began) = (request.verb, Instant::now());
        let result = self.api.call(request).await;
        let code = result
            .as_ref()
            .map_or_else(|status| status.code, |reply| reply.code);
        self.answered(verb, code, began);
        result
    }

    async fn watch(&self, request: Request) -> Result<EventStream, Status> {
        let began = Instant::now();
        let result = self.api.watch(request).await;
        self.answered(
            Verb::Watch,
            result.as_ref().map_or_else(|status| status.code, |_| 200),
            began,
        );
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::request::{ResourceRef, User};

    struct Refusing;

    #[async_trait]
    impl Api for Refusing {
        async fn call(&self, request: Request) -> Result<Reply, Status> {
            Err(Status::not_found("", "pods", &request.name))
        }

        async fn watch(&self, _: Request) -> Result<EventStream, Status> {
            Err(Status::unavailable("not now"))
        }
    }

    #[tokio::test]
    async fn calls_are_counted_by_method_and_answer() {
        let metrics = Metrics::new();
        let api = Measured::wrap(Arc::new(Refusing), "10.0.0.1:6443", &metrics);
        let request = |verb| {
            Request::new(
                User::default(),
                verb,
                ResourceRef::new("", "v1", "pods"),
                "a",
                "b",
            )
        };
        for verb in [Verb::Get, Verb::List, Verb::Delete] {
            assert!(api.call(request(verb)).await.is_err());
        }
        assert!(api.watch(request(Verb::Watch)).await.is_err());
        let text = metrics.encode_plain();
        for line in [
            "rest_client_requests_total{code=\"404\",method=\"GET\",host=\"10.0.0.1:6443\"} 2",
            "rest_client_requests_total{code=\"404\",method=\"DELETE\",host=\"10.0.0.1:6443\"} 1",
            "rest_client_requests_total{code=\"503\",method=\"GET\",host=\"10.0.0.1:6443\"} 1",
            "rest_client_request_duration_seconds_count{verb=\"GET\",host=\"10.0.0.1:6443\"} 3",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}: {text}");
        }
    }
}
