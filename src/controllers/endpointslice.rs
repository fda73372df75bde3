//! EndpointSlice: the pods behind a Service, in slices of a hundred.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::{
    Endpoint, EndpointConditions, EndpointHints, EndpointPort, EndpointSlice, ForNode, ForZone,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::plan::{Key, Plan, Write};
use crate::slices::{self, Common, Groups, MANAGED_BY, SERVICE_NAME};
use crate::view::{View, is_going, managed_by};
use crate::{Reconciler, pods};

/// Endpoints in a slice, as Kubernetes' controller fills them.
const SLICE_MAX: usize = 100;
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The reconciler of EndpointSlices, keyed by Service.
pub struct EndpointSlices;

/// One pod behind a Service.
pub(crate) struct Backend {
    pub(crate) pod: Arc<Pod>,
    pub(crate) address: String,
    pub(crate) ports: Vec<EndpointPort>,
    pub(crate) ready: bool,
    pub(crate) serving: bool,
    pub(crate) terminating: bool,
    pub(crate) hostname: Option<String>,
    pub(crate) node: Option<String>,
    zone: Option<String>,
}

impl Reconciler for EndpointSlices {
    const NAME: &'static str = "endpoint-slice-controller";
    const QUEUE: &'static str = "endpoint_slice";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let slices = slices::kept_by(MANAGER, key, view);
        let Some(service) = view
            .services
            .get(&key.namespace, &key.name)
            .filter(|s| !is_going(s.as_ref()))
        else {
            // Slices of a Service that is gone are the garbage collector's, by their owner reference.
            return plan;
        };
        let Some(spec) = service.spec.as_ref() else {
            return plan;
        };
        if spec.type_.as_deref() == Some("ExternalName")
            || spec.selector.as_ref().is_none_or(BTreeMap::is_empty)
        {
            return plan;
        }
        let common = Common {
            service: key.clone(),
            labels: labels(&service),
            annotations: BTreeMap::new(),
            owner: managed_by(service.as_ref()),
            size_max: SLICE_MAX,
        };
        let mut unused = slices;
        for family in families(&service) {
            let (own, rest): (Vec<_>, Vec<_>) =
                unused.into_iter().partition(|slice| slice.address_type == family);
            unused = rest;
            let mut groups = Groups::default();
            for backend in backends(&service, family, view) {
                let endpoint = Endpoint {
                    hints: hints(&service, &backend),
                    ..endpoint(&backend)
                };
                groups.add(&backend.ports, endpoint);
            }
            // A Service without backends has one empty slice, so that clients see that it was looked at.
            common.settle(family, groups, own, true, &mut plan, now);
        }
        // Of a family that the Service has no more.
        unused
            .iter()
            .for_each(|slice| plan.write(Write::delete(slice.as_ref())));
        plan
    }
}

/// The families of a Service's addresses, and so of its slices.
pub(crate) fn families(service: &Service) -> Vec<&str> {
    let spec = service.spec.as_ref();
    let listed = spec
        .and_then(|spec| spec.ip_families.as_deref())
        .unwrap_or_default();
    match listed {
        [] => vec!["IPv4"],
        listed => listed.iter().map(String::as_str).collect(),
    }
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(
        SERVICE_NAME.to_owned(),
        service.metadata.name.clone().unwrap_or_default(),
    );
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    if service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None") {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// Who should prefer this endpoint (`spec.trafficDistribution`): its zone, and its node before that.
fn hints(service: &Service, backend: &Backend) -> Option<EndpointHints> {
    let wanted = service.spec.as_ref()?.traffic_distribution.as_deref()?;
    let of_node = wanted == "PreferSameNode";
    if !backend.ready || !(of_node || matches!(wanted, "PreferClose" | "PreferSameZone")) {
        return None;
    }
    let zones = backend.zone.clone().map(|name| vec![ForZone { name }]);
    let node = backend.node.clone().filter(|_| of_node);
    let nodes = node.map(|name| vec![ForNode { name }]);
    (zones.is_some() || nodes.is_some()).then_some(EndpointHints {
        for_nodes: nodes,
        for_zones: zones,
    })
}

fn endpoint(backend: &Backend) -> Endpoint {
    Endpoint {
        addresses: vec![backend.address.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(backend.ready),
            serving: Some(backend.serving),
            terminating: Some(backend.terminating),
        }),
        hostname: backend.hostname.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(pod_reference(&backend.pod)),
        zone: backend.zone.clone(),
        ..Endpoint::default()
    }
}

/// The pods that a Service selects and that have an address of a family.
pub(crate) fn backends(service: &Service, family: &str, view: &View) -> Vec<Backend> {
    let Some(spec) = &service.spec else {
        return Vec::new();
    };
    let Some(selector) = &spec.selector else {
        return Vec::new();
    };
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let publish_all = spec.publish_not_ready_addresses.unwrap_or(false);
    let picks = |pod: &Arc<Pod>| {
        let labels = pod.metadata.labels.as_ref();
        !pods::is_finished(pod)
            && selector
                .iter()
                .all(|(k, v)| labels.and_then(|l| l.get(k)) == Some(v))
    };
    let mut found = Vec::new();
    for pod in view.pods.list_in(namespace).into_iter().filter(picks) {
        let Some(address) = address(&pod, family) else {
            continue;
        };
        let Some(ports) = ports(spec.ports.as_deref().unwrap_or_default(), &pod) else {
            continue;
        };
        let serving = pods::is_ready(&pod);
        let terminating = is_going(pod.as_ref());
        let node = Some(pods::node_of(&pod).to_owned()).filter(|name| !name.is_empty());
        found.push(Backend {
            ready: publish_all || (serving && !terminating),
            serving: publish_all || serving,
            terminating,
            hostname: hostname(service, &pod),
            zone: node.as_deref().and_then(|name| zone(name, view)),
            node,
            address,
            ports,
            pod,
        });
    }
    found
}

/// The pod's address of a family, as its status has it.
fn address(pod: &Pod, family: &str) -> Option<String> {
    let status = pod.status.as_ref()?;
    let all = status.pod_ips.iter().flatten().map(|ip| &ip.ip);
    let mut all = all.chain(status.pod_ip.as_ref());
    let fits = |ip: &&String| match ip.parse::<IpAddr>() {
        Ok(ip) => ip.is_ipv6() == (family == "IPv6"),
        Err(_) => false,
    };
    all.find(fits).cloned()
}

/// A pod has a name of its own below a Service whose name is its `subdomain`.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    (spec.subdomain.is_some() && spec.subdomain == service.metadata.name).then(|| spec.hostname.clone())?
}

fn zone(node: &str, view: &View) -> Option<String> {
    view.nodes
        .get("", node)?
        .metadata
        .labels
        .as_ref()?
        .get("topology.kubernetes.io/zone")
        .cloned()
}

/// The ports of a Service as this pod serves them; `None` when it has not the port that a name stands for.
fn ports(ports: &[ServicePort], pod: &Pod) -> Option<Vec<EndpointPort>> {
    let mut found = Vec::new();
    for port in ports {
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let number = match &port.target_port {
            None => Some(port.port),
            Some(IntOrString::Int(number)) if *number > 0 => Some(*number),
            Some(IntOrString::Int(_)) => Some(port.port),
            Some(IntOrString::String(name)) => named_port(pod, name, protocol),
        };
        let Some(number) = number else { continue };
        found.push(EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(number),
            protocol: Some(protocol.to_owned()),
        });
    }
    (!found.is_empty() || ports.is_empty()).then_some(found)
}

fn named_port(pod: &Pod, name: &str, protocol: &str) -> Option<i32> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .flat_map(|container| container.ports.iter().flatten())
        .find(|p| p.name.as_deref() == Some(name) && p.protocol.as_deref().unwrap_or("TCP") == protocol)
        .map(|p| p.container_port)
}

/// The Services that select a pod.
pub fn keys_for_pod(pod: &Pod, view: &View) -> Vec<Key> {
    let labels = pod.metadata.labels.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let selects = |service: &Arc<Service>| {
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        selector.is_some_and(|s| {
            !s.is_empty()
                && s.iter()
                    .all(|(k, v)| labels.and_then(|labels| labels.get(k)) == Some(v))
        })
    };
    let services = view.services.list_in(namespace);
    services
        .into_iter()
        .filter(selects)
        .map(|service| Key::of(service.as_ref()))
        .collect()
}

/// The Service a slice belongs to.
pub fn keys_for_slice(slice: &EndpointSlice, _view: &View) -> Vec<Key> {
    let name = slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SERVICE_NAME));
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    name.map(|name| Key::new(namespace, name)).into_iter().collect()
}

/// The reference by which an address names its pod.
pub(crate) fn pod_reference(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        namespace: pod.metadata.namespace.clone(),
        name: pod.metadata.name.clone(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn service(families: &[&str]) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "x", "uid": "u"},
            "spec": {
                "selector": {"app": "web"}, "ipFamilies": families,
                "ports": [{"port": 80, "targetPort": 8080}],
            },
        }))
        .unwrap()
    }

    fn pod(name: &str, ips: &[&str]) -> Pod {
        let listed: Vec<_> = ips.iter().map(|ip| json!({"ip": ip})).collect();
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "x", "uid": name, "labels": {"app": "web"}},
            "spec": {"containers": []},
            "status": {"podIP": ips[0], "podIPs": listed},
        }))
        .unwrap()
    }

    /// Family and addresses of each slice that is created.
    fn created(plan: &Plan) -> Vec<(String, Vec<String>)> {
        let slice = |write: &Write| match write {
            Write::Create(_, object) => {
                let slice: EndpointSlice = serde_json::from_value(object.clone()).ok()?;
                let endpoints = slice.endpoints.unwrap_or_default();
                let addresses = endpoints.into_iter().flat_map(|e| e.addresses).collect();
                Some((slice.address_type, addresses))
            }
            _ => None,
        };
        plan.writes.iter().filter_map(slice).collect()
    }

    #[test]
    fn each_family_of_a_service_has_slices_of_its_own() {
        let view = View::empty();
        view.services.apply(service(&["IPv4", "IPv6"]));
        view.pods.apply(pod("a", &["10.64.0.2", "fd00::2"]));
        view.pods.apply(pod("b", &["10.64.0.3"]));
        let key = Key::new("x", "web");
        let plan = EndpointSlices.reconcile(&key, &view, Timestamp::UNIX_EPOCH);
        let list = |ips: &[&str]| ips.iter().map(|ip| (*ip).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            created(&plan),
            [
                ("IPv4".to_owned(), list(&["10.64.0.2", "10.64.0.3"])),
                ("IPv6".to_owned(), list(&["fd00::2"])),
            ]
        );
    }
}
