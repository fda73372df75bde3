//! Removes certificate signing requests that have served their purpose, or
//! never will: nodes make a new one with every renewal.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::View;

/// How long one stays that was decided upon (Kubernetes' times).
const DECIDED: Duration = Duration::from_secs(3600);
/// How long one waits for a decision.
const PENDING: Duration = Duration::from_secs(24 * 3600);

/// Removes old requests; keyed by request.
pub struct OldRequests;

impl Reconciler for OldRequests {
    const NAME: &'static str = "certificatesigningrequest-cleaner-controller";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let Some(request) = view.requests.get("", &key.name) else {
            return plan;
        };
        let (since, stays) = last_news(&request);
        // Without a time it has only just come; a clock that was set back makes it young again.
        let age = Duration::try_from(now.duration_since(since.unwrap_or(now))).unwrap_or_default();
        if age >= stays {
            plan.write(Write::delete(request.as_ref()));
        } else {
            plan.look_again(stays - age);
        }
        plan
    }
}

/// When something was last decided about a request, or when it was made, and
/// how long it stays after that.
fn last_news(request: &CertificateSigningRequest) -> (Option<Timestamp>, Duration) {
    let status = request.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let decided = conditions
        .iter()
        .filter(|c| matches!(c.type_.as_str(), "Approved" | "Denied" | "Failed"))
        .filter_map(|c| c.last_update_time.as_ref().map(|time| time.0))
        .max();
    match decided {
        Some(when) => (Some(when), DECIDED),
        None => (
            request.metadata.creation_timestamp.as_ref().map(|time| time.0),
            PENDING,
        ),
    }
}

#[cfg(test)]
mod tests {
    use client::Cache;
    use serde_json::{Value, json};

    use super::*;

    fn plan(status: Value, now: &str) -> Plan {
        let request = json!({"metadata": {"name": "csr-1", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"request": "", "signerName": "kubernetes.io/kube-apiserver-client-kubelet"}, "status": status});
        let view = View {
            requests: Cache::fixed([serde_json::from_value(request).unwrap()]),
            ..View::empty()
        };
        OldRequests.reconcile(&Key::new("", "csr-1"), &view, now.parse().unwrap())
    }

    #[test]
    fn decided_ones_go_after_an_hour_and_waiting_ones_after_a_day() {
        let approved = || json!({"conditions": [{"type": "Approved", "status": "True", "lastUpdateTime": "2026-01-01T00:10:00Z"}]});
        let early = plan(approved(), "2026-01-01T01:09:59Z");
        assert!(
            early.writes.is_empty() && early.again == Some(Duration::from_secs(1)),
            "{early:?}"
        );
        assert_eq!(plan(approved(), "2026-01-01T01:10:00Z").writes.len(), 1);
        assert!(plan(json!({}), "2026-01-01T23:59:59Z").writes.is_empty());
        assert_eq!(plan(json!({}), "2026-01-02T00:00:00Z").writes.len(), 1);
        // A clock that was set back years ago must not remove what is new.
        assert!(plan(approved(), "2020-01-01T00:00:00Z").writes.is_empty());
    }
}
