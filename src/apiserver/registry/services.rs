//! Addresses and node ports of Services. Each that is in use has a record of
//! its own in the store, written and removed in the same commit as the Service,
//! so that two Services can never have the same one, whoever writes them.

use api::kind::Kind;
use api::object;
use api::status::{FieldError, Status};
use api::value;
use serde_json::{Value, json};
use store::{Entry, Expect, Op};

use crate::lookup;

use super::addresses::PortRange;
use super::families;
use super::{Core, text};

const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// The form of an address's record: the object that `ipaddresses` will serve.
static IP_ADDRESS: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    ..Kind::CLUSTER
};
/// The form of a node port's record, which nobody serves.
static NODE_PORT: Kind = Kind {
    group: "coracle.dev",
    kind: "NodePort",
    plural: "nodeports",
    ..Kind::CLUSTER
};

pub(super) fn ip_key(ip: &str) -> String {
    lookup::key(IP_ADDRESS.group, IP_ADDRESS.plural, "", ip)
}

fn port_key(port: u16) -> String {
    lookup::key(NODE_PORT.group, NODE_PORT.plural, "", &port.to_string())
}

/// The prefixes under which the records lie.
pub(super) fn record_prefixes() -> [String; 2] {
    [&IP_ADDRESS, &NODE_PORT].map(|kind| lookup::prefix(kind.group, kind.plural, ""))
}

/// Whether a record is one of those that go with Services; others may write IPAddresses of their own.
pub(super) fn is_own_record(entry: &Entry) -> bool {
    let mut labels = entry.header.labels.iter();
    labels.any(|(name, value)| name == MANAGED_BY && value == MANAGER)
}

/// Namespace and name of the Service that an address's record names.
pub(super) fn parent(record: &Value) -> Option<(&str, &str)> {
    let part = |key: &str| value::text(record, &format!("spec.parentRef.{key}"));
    let is_service = part("group").is_empty() && part("resource") == "services";
    is_service.then(|| (part("namespace"), part("name")))
}

/// What a Service holds: the keys of its records.
pub(super) fn held(service: &Value) -> Vec<String> {
    let mut keys: Vec<String> = cluster_ips(service).into_iter().map(|ip| ip_key(&ip)).collect();
    keys.extend(node_ports(service).into_iter().map(port_key));
    keys
}

fn service_type(service: &Value) -> &str {
    match value::text(service, "spec.type") {
        "" => "ClusterIP",
        given => given,
    }
}

pub(super) fn needs_cluster_ip(service: &Value) -> bool {
    service_type(service) != "ExternalName"
}

fn needs_node_ports(service: &Value) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => value::get(service, "spec.allocateLoadBalancerNodePorts")
            .as_bool()
            .unwrap_or(true),
        _ => false,
    }
}

fn needs_health_port(service: &Value) -> bool {
    service_type(service) == "LoadBalancer" && value::text(service, "spec.externalTrafficPolicy") == "Local"
}

pub(super) fn is_headless(service: &Value) -> bool {
    value::text(service, "spec.clusterIP") == "None"
        || value::list(service, "spec.clusterIPs")
            .first()
            .is_some_and(|ip| ip == "None")
}

pub(super) fn cluster_ips(service: &Value) -> Vec<String> {
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
fn node_ports(service: &Value) -> Vec<u16> {
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

pub(super) fn is_blank(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(n) => n.as_i64() == Some(0),
        _ => false,
    }
}

/// Gives a Service the addresses and ports that it needs and has not; the
/// operations record what is new and forget what is no longer held.
///
/// # Errors
/// 422 for an address or port that is taken or outside the ranges.
pub(super) fn assign(core: &Core, service: &mut Value, live: Option<&Value>) -> Result<Vec<Op>, Status> {
    let before = live.map(held).unwrap_or_default();
    let mut errors = Vec::new();
    families::settle(&core.inner.service_ranges, service, live, &mut errors);
    if errors.is_empty() {
        families::allocate(core, service, &before, &mut errors);
    }
    ports(core, service, &before, &mut errors);
    if !errors.is_empty() {
        return Err(Status::invalid("", "Service", object::name(service), &errors));
    }
    let after = held(service);
    let mut ops = Vec::new();
    for key in after.iter().filter(|key| !before.contains(key)) {
        ops.push(claim(core, key, service)?);
    }
    let lost = before.into_iter().filter(|key| !after.contains(key));
    ops.extend(lost.map(|key| Op::Delete {
        key,
        expect: Expect::Any,
    }));
    Ok(ops)
}

/// The operations that forget what a removed Service held.
pub(super) fn release(service: &Value) -> Vec<Op> {
    held(service)
        .into_iter()
        .map(|key| Op::Delete {
            key,
            expect: Expect::Any,
        })
        .collect()
}

/// Records that a Service holds an address or port that nobody else holds.
pub(super) fn claim(core: &Core, key: &str, service: &Value) -> Result<Op, Status> {
    let config = &core.inner.config;
    let name = key.rsplit('/').next().unwrap_or_default();
    let kind = if *key == ip_key(name) {
        &IP_ADDRESS
    } else {
        &NODE_PORT
    };
    let mut value = json!({
        "metadata": {
            "name": name, "uid": config.random.uuid(), "creationTimestamp": object::time_text(config.clock.now()),
        },
        "spec": { "parentRef": {
            "resource": "services",
            "namespace": object::namespace(service), "name": object::name(service),
        } },
    });
    if kind.kind == IP_ADDRESS.kind {
        let family = if name.contains(':') { "IPv6" } else { "IPv4" };
        value["metadata"]["labels"] = json!({
            "ipaddress.kubernetes.io/ip-family": family,
            MANAGED_BY: MANAGER,
        });
    }
    let record = text::record(&kind.into(), &kind.api_version(), &value, None)?;
    Ok(Op::Put {
        key: key.to_owned(),
        record,
        expect: Expect::Absent,
    })
}

fn ports(core: &Core, service: &mut Value, before: &[String], errors: &mut Vec<FieldError>) {
    let inner = &core.inner;
    let range = inner.port_range;
    let mut mine: Vec<u16> = node_ports(service);
    let held_before = |port: u16| before.contains(&port_key(port));
    let taken = |port: u16| !held_before(port) && inner.store.peek(&port_key(port)).is_some();
    let pick = |mine: &mut Vec<u16>| {
        let port = range.pick(&*inner.config.random, |port| taken(port) || mine.contains(&port))?;
        mine.push(port);
        Some(port)
    };
    let wants = needs_node_ports(service);
    let mut index = 0;
    // One number for several protocols shares a node port.
    let mut shared: Vec<(Value, u16)> = Vec::new();
    value::each(service, "spec.ports", |port| {
        let path = format!("spec.ports[{index}].nodePort");
        index += 1;
        let given = value::int(port, "nodePort")
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(0);
        if given > 0 {
            errors.extend(port_error(range, path, given, taken(given), held_before(given)));
        } else if wants {
            let number = port.get("port").cloned().unwrap_or_default();
            let same = shared
                .iter()
                .find(|(p, _)| *p == number)
                .map(|(_, node_port)| *node_port);
            match same.or_else(|| pick(&mut mine)) {
                Some(free) => {
                    shared.push((number, free));
                    value::set(port, "nodePort", free);
                }
                None => errors.push(FieldError::invalid(
                    path,
                    0,
                    "failed to allocate a nodePort: range is full",
                )),
            }
        }
    });
    let health = needs_health_port(service) && is_blank(value::get(service, "spec.healthCheckNodePort"));
    if let Some(port) = health.then(|| pick(&mut mine)).flatten() {
        object::set(service, &["spec", "healthCheckNodePort"], port);
    }
}

/// What is wrong with a node port that was asked for by number.
fn port_error(range: PortRange, path: String, port: u16, taken: bool, ours: bool) -> Option<FieldError> {
    let why = if !range.contains(port) && !ours {
        let PortRange { first, last } = range;
        format!("provided port is not in the valid range. The range of valid ports is {first}-{last}")
    } else if taken {
        "provided port is already allocated".to_owned()
    } else {
        return None;
    };
    Some(FieldError::invalid(path, port, why))
}

#[cfg(test)]
mod tests {
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
