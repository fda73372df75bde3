//! Which build this is, as monitoring asks for it.

use base::telemetry::Metrics;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use crate::version;

/// The labels, and what `/version` calls them.
const LABELS: [(&str, &str); 9] = [
    ("build_date", "buildDate"),
    ("compiler", "compiler"),
    ("git_commit", "gitCommit"),
    ("git_tree_state", "gitTreeState"),
    ("git_version", "gitVersion"),
    ("go_version", "goVersion"),
    ("major", "major"),
    ("minor", "minor"),
    ("platform", "platform"),
];

/// Registers `kubernetes_build_info`.
pub fn register(metrics: &Metrics) {
    let info = version::info();
    let labels = LABELS.map(|(label, key)| (label, info[key].as_str().unwrap_or_default().to_owned()));
    let build: Family<Vec<(&'static str, String)>, Gauge> = metrics.add(
        "kubernetes_build_info",
        "A metric with a constant '1' value labeled by major, minor, git version, git commit, git tree state, \
         build date, Go version, and compiler from which Kubernetes was built, and platform on which it is running",
        Family::default(),
    );
    build.get_or_create(&labels.to_vec()).set(1);
}
