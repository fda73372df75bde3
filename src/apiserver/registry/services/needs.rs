//! What a Service needs by its type, and what it has been given.

use api::value;
use serde_json::Value;

fn service_type(service: &Value) -> &str {
    match value::text(service, "spec.type") {
        "" => "ClusterIP",
        given => given,
    }
}

/// Whether it has cluster IPs.
pub fn needs_cluster_ip(service: &Value) -> bool {
    service_type(service) != "ExternalName"
}

/// Whether each of its ports has one on every node.
pub fn needs_node_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => value::get(service, "spec.allocateLoadBalancerNodePorts")
            .as_bool()
            .unwrap_or(true),
        _ => false,
    }
}

/// Whether nodes say on a port of their own whether they have endpoints of it.
pub fn needs_health_port(service: &Value) -> bool {
    service_type(service) == "LoadBalancer" && value::text(service, "spec.externalTrafficPolicy") == "Local"
}

/// Whether it is one without an address.
pub fn is_headless(service: &Value) -> bool {
    value::text(service, "spec.clusterIP") == "None"
        || value::list(service, "spec.clusterIPs")
            .first()
            .is_some_and(|ip| ip == "None")
}

/// Its addresses.
pub fn cluster_ips(service: &Value) -> Vec<String> {
    if !needs_cluster_ip(service) || is_headless(service) {
        return Vec::new();
    }
    let mut ips: Vec<String> = value::list(service, "spec.clusterIPs")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .filter(|ip| !ip.is_empty())
        .collect();
    let first = value::text(service, "spec.clusterIP");
    if ips.is_empty() && !first.is_empty() {
        ips.push(first.to_owned());
    }
    ips
}

/// Every node port, once: TCP and UDP of one Service may share a number.
pub fn node_ports(service: &Value) -> Vec<u16> {
    let of = |port: Option<i64>| port.and_then(|p| u16::try_from(p).ok()).filter(|p| *p > 0);
    let mut ports: Vec<u16> = value::list(service, "spec.ports")
        .iter()
        .filter_map(|port| of(value::int(port, "nodePort")))
        .chain(of(value::int(service, "spec.healthCheckNodePort")))
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// Whether a field says nothing.
pub fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(n) => n.as_i64() == Some(0),
        _ => false,
    }
}
