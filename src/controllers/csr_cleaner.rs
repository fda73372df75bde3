//! Removes certificate signing requests that have served their purpose, or never will: nodes make a new one with every
//! renewal.

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
        match end(&request, now) {
            Some(end) if end <= now => plan.write(Write::delete(request.as_ref())),
            Some(end) => {
                plan.look_again(Duration::try_from(end.duration_since(now)).unwrap_or_default());
            }
            // Whoever signs has not come to it yet: it stays until they have.
            None => {}
        }
        plan
    }
}

/// When a request has served its purpose; `None` while somebody still has to sign it.
fn end(request: &CertificateSigningRequest, now: Timestamp) -> Option<Timestamp> {
    let status = request.status.as_ref();
    let conditions = status.and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    if conditions.is_empty() {
        // Without a time it has only just come.
        let created = request.metadata.creation_timestamp.as_ref();
        return (created.map_or(now, |time| time.0)).checked_add(PENDING).ok();
    }
    let issued = status.and_then(|s| s.certificate.as_ref());
    let decided = conditions.iter().filter(|c| match c.type_.as_str() {
        "Denied" | "Failed" => true,
        "Approved" => issued.is_some(),
        _ => false,
    });
    let times = decided.filter_map(|c| c.last_update_time.as_ref()?.0.checked_add(DECIDED).ok());
    let approved = conditions.iter().any(|c| c.type_ == "Approved");
    let expiry = issued
        .filter(|_| approved)
        .and_then(|certificate| expiry(&certificate.0));
    times.chain(expiry).min()
}

/// When the first certificate of these ends.
fn expiry(pem: &[u8]) -> Option<Timestamp> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    let certificate = pem.parse_x509().ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
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

    /// Good until 2026 begins.
    const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBbTCCAROgAwIBAgIUAd743puBBTFNX28qjf0ZEQ/O/ckwCgYIKoZIzj0EAwIw
DDEKMAgGA1UEAwwBYTAeFw0yNTEyMzEwMDAwMDBaFw0yNjAxMDEwMDAwMDBaMAwx
CjAIBgNVBAMMAWEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATaG1EpQu3ZO4HS
QoR0ro89INUbcBSYH1JYeVh/ISWBGg9vT0sH0q3/+rwDTp9kljqZORSrrbMJWz0U
KN+EwKH+o1MwUTAdBgNVHQ4EFgQUYBwWRtM8d2bSYXLYD/pgkKCBLr4wHwYDVR0j
BBgwFoAUYBwWRtM8d2bSYXLYD/pgkKCBLr4wDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNIADBFAiEA9gFIi2vdpcLjs6lcO1qDi8kvNtwusU2arbTrJOI/iLUC
IEMu7BGpcHeatkNV+8wbiBzzc+hDFtCWg3C7qmq5cQKH
-----END CERTIFICATE-----
";

    fn decided(what: &str, when: &str, certificate: &str) -> Value {
        let conditions = json!([{"type": what, "status": "True", "lastUpdateTime": when}]);
        json!({"conditions": conditions, "certificate": STANDARD.encode(certificate)})
    }

    #[test]
    fn decided_ones_go_after_an_hour_and_waiting_ones_after_a_day() {
        let issued = || decided("Approved", "2026-01-01T00:10:00Z", "not one");
        let early = plan(issued(), "2026-01-01T01:09:59Z");
        assert!(
            early.writes.is_empty() && early.again == Some(Duration::from_secs(1)),
            "{early:?}"
        );
        assert_eq!(plan(issued(), "2026-01-01T01:10:00Z").writes.len(), 1);
        for what in ["Denied", "Failed"] {
            let status = || json!({"conditions": decided(what, "2026-01-01T00:10:00Z", "")["conditions"]});
            assert!(plan(status(), "2026-01-01T01:09:59Z").writes.is_empty());
            assert_eq!(plan(status(), "2026-01-01T01:10:00Z").writes.len(), 1);
        }
        assert!(plan(json!({}), "2026-01-01T23:59:59Z").writes.is_empty());
        assert_eq!(plan(json!({}), "2026-01-02T00:00:00Z").writes.len(), 1);
        // A clock that was set back years ago must not remove what is new.
        assert!(plan(issued(), "2020-01-01T00:00:00Z").writes.is_empty());
    }

    #[test]
    fn one_that_waits_for_its_signer_stays() {
        let approved = json!({"conditions": decided("Approved", "2026-01-01T00:10:00Z", "")["conditions"]});
        let stays = plan(approved, "2026-03-01T00:00:00Z");
        assert!(stays.writes.is_empty() && stays.again.is_none(), "{stays:?}");
    }

    #[test]
    fn a_certificate_that_has_ended_takes_its_request_along() {
        let short = || decided("Approved", "2025-12-31T23:50:00Z", CERTIFICATE);
        let early = plan(short(), "2025-12-31T23:59:58Z");
        assert!(
            early.writes.is_empty() && early.again == Some(Duration::from_secs(2)),
            "{early:?}"
        );
        assert_eq!(plan(short(), "2026-01-01T00:00:00Z").writes.len(), 1);
    }
}
