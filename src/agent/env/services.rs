//! The variables by which a pod finds Services without asking DNS.

use k8s_openapi::api::core::v1::Service;

/// Variables for the Services in a pod's namespace, and always for
/// `default/kubernetes`; with `links` off, for the latter only.
pub fn variables(services: &[impl AsRef<Service>], namespace: &str, links: bool) -> Vec<(String, String)> {
    let mut out = Vec::new();
    for service in services.iter().map(AsRef::as_ref) {
        let its_namespace = service.metadata.namespace.as_deref().unwrap_or_default();
        let name = service.metadata.name.as_deref().unwrap_or_default();
        let master = its_namespace == "default" && name == "kubernetes";
        if master || (links && its_namespace == namespace) {
            one(service, name, &mut out);
        }
    }
    // A service of the pod's own namespace that is also called `kubernetes` wins, as it came later.
    out.sort();
    out.dedup_by(|a, b| a.0 == b.0);
    out
}

fn one(service: &Service, name: &str, out: &mut Vec<(String, String)>) {
    let Some(spec) = &service.spec else { return };
    let ip = spec.cluster_ip.as_deref().unwrap_or_default();
    let ports = spec.ports.as_deref().unwrap_or_default();
    let Some(first) = ports.first().filter(|_| !ip.is_empty() && ip != "None") else {
        return;
    };
    let prefix = variable_name(name);
    let mut put = |name: String, value: String| out.push((name, value));
    put(format!("{prefix}_SERVICE_HOST"), ip.to_owned());
    put(format!("{prefix}_SERVICE_PORT"), first.port.to_string());
    for port in ports {
        if let Some(name) = port.name.as_deref().filter(|n| !n.is_empty()) {
            put(
                format!("{prefix}_SERVICE_PORT_{}", variable_name(name)),
                port.port.to_string(),
            );
        }
    }
    let host = if ip.contains(':') {
        format!("[{ip}]")
    } else {
        ip.to_owned()
    };
    for (index, port) in ports.iter().enumerate() {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{host}:{}", protocol.to_lowercase(), port.port);
        if index == 0 {
            put(format!("{prefix}_PORT"), url.clone());
        }
        let link = format!("{prefix}_PORT_{}_{}", port.port, protocol.to_uppercase());
        put(format!("{link}_PROTO"), protocol.to_lowercase());
        put(format!("{link}_PORT"), port.port.to_string());
        put(format!("{link}_ADDR"), ip.to_owned());
        put(link, url);
    }
}

fn variable_name(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::{ServicePort, ServiceSpec};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn service(namespace: &str, name: &str, ip: &str) -> Arc<Service> {
        let port = ServicePort {
            name: Some("http".to_owned()),
            port: 80,
            ..Default::default()
        };
        Arc::new(Service {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..Default::default()
            },
            spec: Some(ServiceSpec {
                cluster_ip: Some(ip.to_owned()),
                ports: Some(vec![port]),
                ..Default::default()
            }),
            ..Default::default()
        })
    }

    #[test]
    fn variables_of_a_service() {
        let services = [
            service("default", "kubernetes", "10.43.0.1"),
            service("ns", "my-web", "10.43.0.7"),
            service("ns", "headless", "None"),
            service("other", "elsewhere", "10.43.0.8"),
        ];
        let found = variables(&services, "ns", true);
        let get = |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        assert_eq!(get("MY_WEB_SERVICE_HOST"), Some("10.43.0.7"));
        assert_eq!(get("MY_WEB_SERVICE_PORT"), Some("80"));
        assert_eq!(get("MY_WEB_SERVICE_PORT_HTTP"), Some("80"));
        assert_eq!(get("MY_WEB_PORT"), Some("tcp://10.43.0.7:80"));
        assert_eq!(get("MY_WEB_PORT_80_TCP"), Some("tcp://10.43.0.7:80"));
        assert_eq!(get("MY_WEB_PORT_80_TCP_ADDR"), Some("10.43.0.7"));
        assert_eq!(get("KUBERNETES_SERVICE_HOST"), Some("10.43.0.1"));
        assert!(
            !found
                .iter()
                .any(|(n, _)| n.starts_with("HEADLESS") || n.starts_with("ELSEWHERE"))
        );
        let few = variables(&services, "ns", false);
        assert!(few.iter().all(|(n, _)| n.starts_with("KUBERNETES_")));
    }
}
