//! The records of what Services hold.

use api::kind::Kind;
use api::value;
use serde_json::Value;
use store::Entry;

use super::needs::{cluster_ips, node_ports};
use crate::stored;

/// The label of records that go with Services.
pub const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
/// Its value.
pub const MANAGER: &str = "ipallocator.k8s.io";

/// The form of an address's record: the object that `ipaddresses` will serve.
pub static IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    ..Kind::CLUSTER
};
/// The form of a node port's record, which nobody serves.
pub static NODE_PORT: Kind = Kind {
    group: "coracle.dev",
    kind: "NodePort",
    plural: "nodeports",
    ..Kind::CLUSTER
};

/// The key of an address's record.
pub fn ip_key(ip: &str) -> String {
    stored::key(IP_ADDRESS.group, IP_ADDRESS.plural, "", ip)
}

/// The key of a node port's record.
pub fn port_key(port: u16) -> String {
    stored::key(NODE_PORT.group, NODE_PORT.plural, "", &port.to_string())
}

/// The prefixes under which the records lie.
pub fn record_prefixes() -> [String; 2] {
    [&IP_ADDRESS, &NODE_PORT].map(|kind| stored::prefix(kind.group, kind.plural, ""))
}

/// Whether a record is one of those that go with Services; others may write IPAddresses of their own.
pub fn is_own_record(entry: &Entry) -> bool {
    let mut labels = entry.header.labels.iter();
    labels.any(|(name, value)| name == MANAGED_BY && value == MANAGER)
}

/// Namespace and name of the Service that an address's record names.
pub fn parent(record: &Value) -> Option<(&str, &str)> {
    let part = |key: &str| value::text(record, &format!("spec.parentRef.{key}"));
    let is_service = part("group").is_empty() && part("resource") == "services";
    is_service.then(|| (part("namespace"), part("name")))
}

/// What a Service holds: the keys of its records.
pub fn held(service: &Value) -> Vec<String> {
    let mut keys: Vec<String> = cluster_ips(service).into_iter().map(|ip| ip_key(&ip)).collect();
    keys.extend(node_ports(service).into_iter().map(port_key));
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_service_holds_each_port_once() {
        let service = json!({"spec": {"type": "NodePort", "clusterIP": "None", "ports": [
            {"port": 53, "protocol": "TCP", "nodePort": 30053}, {"port": 53, "protocol": "UDP", "nodePort": 30053}]}});
        assert_eq!(held(&service), [port_key(30053)]);
    }

    #[test]
    fn a_service_holds_what_its_type_has() {
        let mut service = json!({"spec": {"clusterIP": "10.43.0.9", "ports": [{"port": 80}]}});
        assert_eq!(held(&service), [ip_key("10.43.0.9")]);
        service["spec"]["type"] = "ExternalName".into();
        assert!(held(&service).is_empty());
    }
}
