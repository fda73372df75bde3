//! Objects for tests.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::config::NetworkConfig;

fn metadata(namespace: &str, name: &str) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(namespace.into()),
        name: Some(name.into()),
        ..ObjectMeta::default()
    }
}

/// A Service; `ip` may be `None`; ports are TCP with names.
pub fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, i32)]) -> Service {
    let port = |(name, port): &(&str, i32)| ServicePort {
        name: (!name.is_empty()).then(|| name.to_string()),
        port: *port,
        protocol: Some("TCP".into()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        cluster_ip: Some(ip.into()),
        cluster_ips: Some(vec![ip.into()]),
        ports: Some(ports.iter().map(port).collect()),
        type_: Some("ClusterIP".into()),
        ..ServiceSpec::default()
    };
    Service {
        metadata: metadata(namespace, name),
        spec: Some(spec),
        status: None,
    }
}

/// A slice of ready endpoints.
pub fn slice(
    namespace: &str,
    service: &str,
    name: &str,
    ips: &[&str],
    ports: &[(&str, i32)],
) -> EndpointSlice {
    let mut metadata = metadata(namespace, name);
    metadata.labels = Some([("kubernetes.io/service-name".to_string(), service.to_string())].into());
    let port = |(name, port): &(&str, i32)| EndpointPort {
        name: Some(name.to_string()),
        port: Some(*port),
        protocol: Some("TCP".into()),
        ..EndpointPort::default()
    };
    EndpointSlice {
        address_type: "IPv4".into(),
        endpoints: Some(ips.iter().map(|ip| endpoint(ip)).collect()),
        metadata,
        ports: Some(ports.iter().map(port).collect()),
    }
}

/// A ready endpoint.
pub fn endpoint(ip: &str) -> Endpoint {
    let conditions = EndpointConditions {
        ready: Some(true),
        serving: Some(true),
        terminating: Some(false),
    };
    Endpoint {
        addresses: vec![ip.into()],
        conditions: Some(conditions),
        ..Endpoint::default()
    }
}

/// A node at 192.0.2.2 with everything under `data_dir`.
pub fn config(data_dir: &std::path::Path) -> NetworkConfig {
    NetworkConfig {
        instance_id: "0a1b2c3d".into(),
        data_dir: data_dir.to_path_buf(),
        pod_cidr: "10.64.0.0/10".parse().expect("a range"),
        node_cidr: "10.64.0.0/20".parse().expect("a range"),
        service_cidr: "10.43.0.0/16".parse().expect("a range"),
        node_name: "here".into(),
        node_ip: [192, 0, 2, 2].into(),
        node_ip6: None,
        routing: crate::peers::PodRouting::Auto,
        proxy: crate::services::ServiceProxy::Kernel,
        dns_ip: [10, 43, 0, 10].into(),
        domain: "cluster.local".into(),
        resolv_conf: data_dir.join("resolv.conf"),
    }
}
