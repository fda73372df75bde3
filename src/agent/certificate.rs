//! How long the certificate lasts by which the node is known, and how often another one was asked for in vain: what
//! `metrics` tells of it, by the kubelet's names.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// See the module. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
pub struct Certificate(Arc<State>);

#[derive(Default)]
struct State {
    /// In seconds since 1970; 0 for a node that has none, as one in a server's process.
    ends: AtomicI64,
    errors: AtomicU64,
}

impl Certificate {
    /// The node's certificate ends then, in seconds since 1970.
    pub(crate) fn ends(&self, at: i64) {
        self.0.ends.store(at, Ordering::Relaxed);
    }

    /// It could not be renewed.
    pub(crate) fn not_renewed(&self) {
        self.0.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The metrics at that time, in seconds since 1970.
    pub(crate) fn metrics(&self, now: i64) -> String {
        let left = match self.0.ends.load(Ordering::Relaxed) {
            0 => "+Inf".to_owned(),
            ends => (ends - now).to_string(),
        };
        let errors = self.0.errors.load(Ordering::Relaxed).to_string();
        let mut page = String::new();
        let series = [
            (
                "kubelet_certificate_manager_client_ttl_seconds",
                "gauge",
                "Seconds until the node's client certificate ends (negative once it has); +Inf for a node without one.",
                left,
            ),
            (
                "kubelet_certificate_manager_client_expiration_renew_errors",
                "counter",
                "How often the node's client certificate could not be renewed.",
                errors,
            ),
        ];
        for (name, kind, help, value) in series {
            // Writing to a string cannot fail.
            let _ = write!(
                page,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            );
        }
        page
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_that_is_left_may_be_over_or_without_end() {
        let certificate = Certificate::default();
        let line = |now: i64, name: &str| {
            let text = certificate.metrics(now);
            let found = text.lines().find(|line| line.starts_with(name));
            found
                .and_then(|line| line.split_once(' '))
                .map(|(_, value)| value.to_owned())
        };
        let ttl = |now| line(now, "kubelet_certificate_manager_client_ttl_seconds");
        assert_eq!(ttl(50).as_deref(), Some("+Inf"));
        certificate.ends(100);
        assert_eq!(ttl(40).as_deref(), Some("60"));
        assert_eq!(ttl(130).as_deref(), Some("-30"));
        let errors = || line(0, "kubelet_certificate_manager_client_expiration_renew_errors");
        assert_eq!(errors().as_deref(), Some("0"));
        certificate.clone().not_renewed();
        assert_eq!(errors().as_deref(), Some("1"));
    }
}
