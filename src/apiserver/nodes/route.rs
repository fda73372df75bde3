//! Which address a connection leads to, and which node reaches it. Pure.

use std::net::{IpAddr, SocketAddr};

use api::status::Status;
use serde_json::Value;

/// An address and who dials it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Route {
    /// Node whose agent dials; `None` when the address is on no node.
    pub node: Option<String>,
    /// Where to.
    pub address: SocketAddr,
}

/// Where a Service of type ExternalName points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Elsewhere {
    /// At another Service of the cluster: its namespace and name.
    Service((String, String)),
    /// At a host outside.
    Host(String),
}

/// Where a Service points that is only a name for something else; `None` for any other.
pub(super) fn elsewhere(service: &Value) -> Option<Elsewhere> {
    if service["spec"]["type"] != "ExternalName" {
        return None;
    }
    let host = service["spec"]["externalName"].as_str()?.trim_end_matches('.');
    let mut labels = host.splitn(4, '.');
    Some(match (labels.next(), labels.next(), labels.next()) {
        (Some(name), Some(namespace), Some("svc")) => {
            Elsewhere::Service((namespace.to_owned(), name.to_owned()))
        }
        _ => Elsewhere::Host(host.to_owned()),
    })
}

/// The way to a port of a pod.
pub(super) fn to_pod(pod: &Value, port: &str) -> Result<Route, Status> {
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let node = pod["spec"]["nodeName"].as_str().filter(|node| !node.is_empty());
    let node = node
        .ok_or_else(|| Status::bad_request(format!("pod {name} does not have a host assigned")))?
        .to_owned();
    let ip = parse_ip(&pod["status"]["podIP"])
        .ok_or_else(|| Status::bad_request(format!("pod {name} has no address yet")))?;
    let port =
        pod_port(pod, port).ok_or_else(|| Status::bad_request(format!("pod {name} has no port {port:?}")))?;
    Ok(Route {
        node: Some(node),
        address: SocketAddr::new(ip, port),
    })
}

/// The port that is meant: by number, by name, or the first one there is, else 80.
fn pod_port(pod: &Value, wanted: &str) -> Option<u16> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.flat_map(|container| container["ports"].as_array().into_iter().flatten());
    let number = |port: &Value| port["containerPort"].as_u64().and_then(|n| u16::try_from(n).ok());
    if wanted.is_empty() {
        return Some(ports.find_map(number).unwrap_or(80));
    }
    match wanted.parse() {
        Ok(number) => Some(number),
        Err(_) => ports.find(|port| port["name"] == wanted).and_then(number),
    }
}

/// The ways to the ready endpoints of a Service's port, those that are going only when there are no others.
pub(super) fn to_service(service: &Value, slices: &Value, port: &str) -> Result<Vec<Route>, Status> {
    let name = service["metadata"]["name"].as_str().unwrap_or_default();
    let port = service_port(service, port)
        .ok_or_else(|| Status::unavailable(format!("no service port {port:?} found for service {name:?}")))?;
    let (mut ready, mut going) = (Vec::new(), Vec::new());
    for slice in slices["items"].as_array().into_iter().flatten() {
        let mut ports = slice["ports"].as_array().into_iter().flatten();
        let number = ports
            .find(|p| p["name"].as_str().unwrap_or_default() == port)
            .and_then(|p| u16::try_from(p["port"].as_u64()?).ok());
        let Some(number) = number else { continue };
        for endpoint in slice["endpoints"].as_array().into_iter().flatten() {
            let Some(ip) = parse_ip(&endpoint["addresses"][0]) else {
                continue;
            };
            let route = Route {
                node: endpoint["nodeName"].as_str().map(str::to_owned),
                address: SocketAddr::new(ip, number),
            };
            let is =
                |condition: &str, otherwise| endpoint["conditions"][condition].as_bool().unwrap_or(otherwise);
            if is("ready", true) {
                ready.push(route);
            } else if is("serving", false) && is("terminating", false) {
                going.push(route);
            }
        }
    }
    let found = if ready.is_empty() { going } else { ready };
    if found.is_empty() {
        return Err(Status::unavailable(format!(
            "no endpoints available for service {name:?}"
        )));
    }
    Ok(found)
}

/// The name of the Service's port that is meant: by name, by number, or the only one.
fn service_port<'a>(service: &'a Value, wanted: &str) -> Option<&'a str> {
    fn name(port: &Value) -> &str {
        port["name"].as_str().unwrap_or_default()
    }
    let ports = service["spec"]["ports"].as_array()?;
    if wanted.is_empty() {
        return match ports.as_slice() {
            [one] => Some(name(one)),
            many => many.iter().map(name).find(|name| name.is_empty()),
        };
    }
    let number = wanted.parse::<u64>().ok();
    let fits = |port: &&Value| name(port) == wanted || (number.is_some() && port["port"].as_u64() == number);
    ports.iter().find(fits).map(name)
}

/// The way to a port of a node itself, by its internal address.
pub(super) fn to_node(node: &Value, port: u16) -> Result<Route, Status> {
    let name = node["metadata"]["name"].as_str().unwrap_or_default();
    let mut addresses = node["status"]["addresses"].as_array().into_iter().flatten();
    let ip = addresses
        .find(|address| address["type"] == "InternalIP")
        .and_then(|address| parse_ip(&address["address"]))
        .ok_or_else(|| Status::unavailable(format!("node {name:?} has no address")))?;
    Ok(Route {
        node: Some(name.to_owned()),
        address: SocketAddr::new(ip, port),
    })
}

/// The address of an object as it says it; `None` when it says none.
fn parse_ip(text: &Value) -> Option<IpAddr> {
    text.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn route(node: Option<&str>, address: &str) -> Route {
        Route {
            node: node.map(str::to_owned),
            address: address.parse().unwrap(),
        }
    }

    #[test]
    fn a_pods_port_by_number_by_name_or_the_first() {
        let pod = json!({"metadata": {"name": "web"}, "status": {"podIP": "10.64.0.2"},
            "spec": {"nodeName": "n1", "containers": [{"ports": [{"name": "http", "containerPort": 8080}]}]}});
        for (port, found) in [
            ("", "10.64.0.2:8080"),
            ("http", "10.64.0.2:8080"),
            ("9", "10.64.0.2:9"),
        ] {
            assert_eq!(to_pod(&pod, port).unwrap(), route(Some("n1"), found));
        }
        assert_eq!(to_pod(&pod, "tls").unwrap_err().code, 400);
        let early = json!({"metadata": {"name": "web"}, "spec": {"nodeName": "n1"}});
        assert_eq!(
            to_pod(&early, "").unwrap_err().message,
            "pod web has no address yet"
        );
        let unbound = json!({"metadata": {"name": "web"}, "spec": {}});
        assert_eq!(
            to_pod(&unbound, "").unwrap_err().message,
            "pod web does not have a host assigned"
        );
    }

    #[test]
    fn a_services_ready_endpoints_with_their_nodes() {
        let service = json!({"metadata": {"name": "web"},
            "spec": {"ports": [{"name": "http", "port": 80}, {"name": "admin", "port": 81}]}});
        let endpoint = |ip: &str, ready: bool, going: bool| {
            json!({"addresses": [ip], "nodeName": "n1",
                "conditions": {"ready": ready, "serving": true, "terminating": going}})
        };
        let slices = |endpoints: Value| json!({"items": [{"ports": [{"name": "http", "port": 8080}], "endpoints": endpoints}]});
        let both = slices(json!([
            endpoint("10.64.0.2", true, false),
            endpoint("10.64.0.3", false, true)
        ]));
        assert_eq!(
            to_service(&service, &both, "80").unwrap(),
            [route(Some("n1"), "10.64.0.2:8080")]
        );
        let last = slices(json!([endpoint("10.64.0.3", false, true)]));
        assert_eq!(to_service(&service, &last, "http").unwrap().len(), 1);
        let outside = slices(json!([{"addresses": ["192.0.2.9"]}]));
        assert_eq!(
            to_service(&service, &outside, "http").unwrap(),
            [route(None, "192.0.2.9:8080")]
        );
        for port in ["", "82", "admin"] {
            assert_eq!(to_service(&service, &both, port).unwrap_err().code, 503, "{port}");
        }
    }

    #[test]
    fn a_name_for_something_else() {
        let service = |to: &str| json!({"spec": {"type": "ExternalName", "externalName": to}});
        let inside = Elsewhere::Service(("ns".into(), "web".into()));
        assert_eq!(elsewhere(&service("web.ns.svc.cluster.local")), Some(inside));
        let outside = Elsewhere::Host("web.example.com".into());
        assert_eq!(elsewhere(&service("web.example.com.")), Some(outside));
        assert_eq!(elsewhere(&json!({"spec": {"type": "ClusterIP"}})), None);
    }

    #[test]
    fn a_nodes_internal_address() {
        let node = json!({"metadata": {"name": "n1"}, "status": {"addresses": [
            {"type": "Hostname", "address": "n1"}, {"type": "InternalIP", "address": "192.0.2.11"}]}});
        assert_eq!(
            to_node(&node, 9100).unwrap(),
            route(Some("n1"), "192.0.2.11:9100")
        );
    }
}
