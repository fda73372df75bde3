//! What the types of a Service may have.

use crate::value::{get_mut, list, set, text};
use serde_json::{Value, json};

/// Fills in the first of `clusterIPs` from `clusterIP`. Families and further
/// addresses depend on the cluster's ranges, which the server knows.
pub fn addresses(service: &mut Value) {
    let Some(spec) = get_mut(service, "spec") else {
        return;
    };
    let ip = text(spec, "clusterIP").to_owned();
    if text(spec, "type") != "ExternalName" && !ip.is_empty() && list(spec, "clusterIPs").is_empty() {
        set(spec, "clusterIPs", json!([ip]));
    }
}

/// Whether services of that type have a cluster IP.
pub fn needs_cluster_ip(kind: &str) -> bool {
    matches!(kind, "" | "ClusterIP" | "NodePort" | "LoadBalancer")
}

/// Whether services of that type may have node ports.
pub fn may_have_node_ports(kind: &str) -> bool {
    matches!(kind, "NodePort" | "LoadBalancer")
}
