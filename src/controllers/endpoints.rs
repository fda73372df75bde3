//! Endpoints: the older list of the pods behind a Service, kept for clients that still read it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::Reconciler;
use crate::endpointslice::{Backend, backends, families, pod_reference};
use crate::plan::{Key, Plan, Write};
use crate::view::View;

/// Most addresses an object may list; more would make it too big to watch.
const ADDRESSES_MAX: usize = 1000;
const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// The reconciler of Endpoints, keyed by Service.
pub struct EndpointsOfServices;

impl Reconciler for EndpointsOfServices {
    const NAME: &'static str = "endpoint-controller";
    const QUEUE: &'static str = "endpoint";

    fn reconcile(&self, key: &Key, view: &View, _now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let found = view.endpoints.get(&key.namespace, &key.name);
        let Some(service) = view.services.get(&key.namespace, &key.name) else {
            if let Some(endpoints) = found.filter(|e| is_ours(e)) {
                plan.write(Write::delete(endpoints.as_ref()));
            }
            return plan;
        };
        if service
            .spec
            .as_ref()
            .is_none_or(|spec| spec.selector.as_ref().is_none_or(BTreeMap::is_empty))
        {
            return plan;
        }
        // The older list knows one family: the Service's first.
        let family = families(&service).first().copied().unwrap_or("IPv4");
        let subsets = subsets(&backends(&service, family, view));
        let labels = labels(&service);
        match found {
            None => plan.write(Write::create(&Endpoints {
                metadata: ObjectMeta {
                    name: service.metadata.name.clone(),
                    namespace: service.metadata.namespace.clone(),
                    labels: Some(labels),
                    ..ObjectMeta::default()
                },
                subsets: Some(subsets),
            })),
            Some(endpoints) => {
                let same = endpoints.subsets.clone().unwrap_or_default() == subsets
                    && endpoints.metadata.labels.as_ref() == Some(&labels);
                if !same {
                    let mut new = (*endpoints).clone();
                    new.metadata.labels = Some(labels);
                    new.subsets = Some(subsets);
                    plan.write(Write::update(&new));
                }
            }
        }
        plan
    }
}

fn is_ours(endpoints: &Endpoints) -> bool {
    endpoints
        .metadata
        .labels
        .as_ref()
        .is_some_and(|labels| labels.contains_key(MANAGED_BY))
}

fn labels(service: &Service) -> BTreeMap<String, String> {
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.insert(MANAGED_BY.to_owned(), EndpointsOfServices::NAME.to_owned());
    let headless = service.spec.as_ref().and_then(|spec| spec.cluster_ip.as_deref()) == Some("None");
    if headless {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels
}

/// The backends grouped by their ports, as one subset lists one set of ports.
fn subsets(backends: &[Backend]) -> Vec<EndpointSubset> {
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<&Backend>)> = BTreeMap::new();
    let usable = backends.iter().filter(|b| !b.terminating).take(ADDRESSES_MAX);
    for backend in usable {
        let ports: Vec<EndpointPort> = backend
            .ports
            .iter()
            .map(|port| EndpointPort {
                app_protocol: port.app_protocol.clone(),
                name: port.name.clone().filter(|name| !name.is_empty()),
                port: port.port.unwrap_or(0),
                protocol: port.protocol.clone(),
            })
            .collect();
        let key = serde_json::to_string(&ports).unwrap_or_default();
        groups
            .entry(key)
            .or_insert_with(|| (ports, Vec::new()))
            .1
            .push(backend);
    }
    groups
        .into_values()
        .map(|(ports, members)| subset(ports, &members))
        .collect()
}

fn subset(ports: Vec<EndpointPort>, members: &[&Backend]) -> EndpointSubset {
    let addresses = |ready: bool| -> Option<Vec<EndpointAddress>> {
        let mut list: Vec<_> = members
            .iter()
            .filter(|b| b.ready == ready)
            .map(|b| address(b))
            .collect();
        list.sort_by(|a, b| a.ip.cmp(&b.ip));
        Some(list).filter(|list| !list.is_empty())
    };
    EndpointSubset {
        addresses: addresses(true),
        not_ready_addresses: addresses(false),
        ports: Some(ports).filter(|ports| !ports.is_empty()),
    }
}

fn address(backend: &Backend) -> EndpointAddress {
    EndpointAddress {
        hostname: backend.hostname.clone(),
        ip: backend.address.clone(),
        node_name: backend.node.clone(),
        target_ref: Some(pod_reference(&backend.pod)),
    }
}
