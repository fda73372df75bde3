//! Mirrors Endpoints that somebody wrote by hand, for a Service without a selector, in EndpointSlices: what leads
//! connections reads only those.

use std::collections::BTreeMap;
use std::net::IpAddr;

use client::EventType;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort};

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::slices::{self, Common, Groups, MANAGED_BY, SERVICE_NAME};
use crate::view::{View, is_going, managed_by};

/// Addresses of one subset that are mirrored, and endpoints in a slice, as in Kubernetes.
const ADDRESSES_MAX: usize = 1000;
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints were once what programs elected their leaders by; nothing listens there.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
/// What the Endpoints' annotations say about themselves.
const OWN_ANNOTATIONS: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// The reconciler of mirrored EndpointSlices, keyed by Endpoints, which are named as their Service.
pub struct MirroredSlices;

/// What a subset says, family by family.
#[derive(Default)]
struct Read {
    groups: BTreeMap<&'static str, Groups>,
    /// Addresses that are none.
    invalid: usize,
    /// Addresses that are too many.
    skipped: usize,
}

impl Reconciler for MirroredSlices {
    const NAME: &'static str = "endpoint-slice-mirroring-controller";
    const QUEUE: &'static str = "endpoint_slice_mirroring";

    fn reconcile(&self, key: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        let mut slices = slices::kept_by(MANAGER, key, view);
        let endpoints = view.endpoints.get(&key.namespace, &key.name);
        let service = view.services.get(&key.namespace, &key.name);
        let mirrored = endpoints.filter(|endpoints| {
            is_meant(endpoints) && service.is_some_and(|service| !has_selector(&service))
        });
        let Some(endpoints) = mirrored else {
            slices
                .iter()
                .for_each(|slice| plan.write(Write::delete(slice.as_ref())));
            return plan;
        };
        let mut read = Read::default();
        let subsets = endpoints.subsets.iter().flatten();
        subsets.for_each(|subset| read.add(subset));
        let common = common(key, &endpoints);
        for family in ["IPv4", "IPv6"] {
            let (own, rest) = slices.into_iter().partition(|slice| slice.address_type == family);
            slices = rest;
            let groups = read.groups.remove(family).unwrap_or_default();
            common.settle(family, groups, own, false, &mut plan, now);
        }
        if !plan.writes.is_empty() {
            read.tell(&endpoints, &mut plan);
        }
        plan
    }
}

/// Whether those who wrote the Endpoints meant it as a list of where to connect.
fn is_meant(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().and_then(|labels| labels.get(SKIP));
    let elects = meta
        .annotations
        .as_ref()
        .is_some_and(|all| all.contains_key(LEADER));
    !is_going(endpoints) && skips.map(String::as_str) != Some("true") && !elects
}

fn has_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

fn common(key: &Key, endpoints: &Endpoints) -> Common {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), key.name.clone());
    labels.insert(MANAGED_BY.to_owned(), MANAGER.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|name, _| !OWN_ANNOTATIONS.contains(&name.as_str()));
    Common {
        service: key.clone(),
        labels,
        annotations,
        owner: managed_by(endpoints),
        size_max: ADDRESSES_MAX,
    }
}

impl Read {
    fn add(&mut self, subset: &EndpointSubset) {
        let ports = subset.ports.iter().flatten().map(|port| EndpointPort {
            app_protocol: port.app_protocol.clone(),
            name: Some(port.name.clone().unwrap_or_default()),
            port: Some(port.port),
            protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
        });
        let ports: Vec<EndpointPort> = ports.collect();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset.not_ready_addresses.iter().flatten();
        let mut taken = 0;
        for (address, ready) in ready.chain(unready.map(|address| (address, false))) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                self.invalid += 1;
                continue;
            };
            if taken == ADDRESSES_MAX {
                self.skipped += 1;
                continue;
            }
            taken += 1;
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let groups = self.groups.entry(family).or_default();
            groups.add(&ports, endpoint(address, ready));
        }
    }

    /// What did not find its way into the slices.
    fn tell(&self, endpoints: &Endpoints, plan: &mut Plan) {
        if self.invalid > 0 {
            let text = format!(
                "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                self.invalid
            );
            plan.tell(endpoints, EventType::Warning, "InvalidIPAddress", text);
        }
        if self.skipped > 0 {
            let text = format!(
                "A max of {ADDRESSES_MAX} addresses can be mirrored to EndpointSlices per Endpoints subset. {} \
                 addresses were skipped",
                self.skipped
            );
            plan.tell(endpoints, EventType::Warning, "TooManyAddressesToMirror", text);
        }
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|name| !name.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::discovery::v1::EndpointSlice;
    use serde_json::{Value, json};

    fn view(selector: Value, labels: Value, subsets: Value) -> View {
        let view = View::empty();
        let of = |value: Value| serde_json::from_value(value).unwrap();
        view.services.apply(of(json!({
            "metadata": {"name": "old", "namespace": "x", "uid": "s"},
            "spec": {"selector": selector, "ports": [{"port": 80}]},
        })));
        let endpoints: Endpoints = serde_json::from_value(json!({
            "metadata": {
                "name": "old", "namespace": "x", "uid": "e", "labels": labels,
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "a": "b"},
            },
            "subsets": subsets,
        }))
        .unwrap();
        view.endpoints.apply(endpoints);
        view
    }

    fn plan(view: &View) -> Plan {
        MirroredSlices.reconcile(&Key::new("x", "old"), view, Timestamp::UNIX_EPOCH)
    }

    fn created(plan: &Plan) -> Vec<EndpointSlice> {
        let slice = |write: &Write| match write {
            Write::Create(_, object) => serde_json::from_value(object.clone()).ok(),
            _ => None,
        };
        plan.writes.iter().filter_map(slice).collect()
    }

    fn subsets() -> Value {
        json!([{
            "addresses": [{"ip": "192.0.2.1", "hostname": "one"}, {"ip": "2001:db8::1"}, {"ip": "nonsense"}],
            "notReadyAddresses": [{"ip": "192.0.2.2"}],
            "ports": [{"name": "web", "port": 8080}],
        }])
    }

    #[test]
    fn endpoints_written_by_hand_become_slices_of_each_family() {
        let plan = plan(&view(Value::Null, json!({"l": "1"}), subsets()));
        let slices = created(&plan);
        let families: Vec<&str> = slices.iter().map(|slice| slice.address_type.as_str()).collect();
        assert_eq!(families, ["IPv4", "IPv6"]);
        let first = &slices[0];
        let labels = first.metadata.labels.as_ref().unwrap();
        assert_eq!(labels[SERVICE_NAME], "old");
        assert_eq!(labels[MANAGED_BY], MANAGER);
        assert_eq!(labels["l"], "1");
        let annotations = first.metadata.annotations.as_ref().unwrap();
        assert_eq!(annotations.keys().collect::<Vec<_>>(), ["a"]);
        let owner = &first.metadata.owner_references.as_ref().unwrap()[0];
        assert_eq!((owner.kind.as_str(), owner.uid.as_str()), ("Endpoints", "e"));
        let ready: Vec<_> = first
            .endpoints
            .iter()
            .flatten()
            .map(|e| e.conditions.clone().unwrap().ready)
            .collect();
        assert_eq!(ready, [Some(true), Some(false)]);
        let port = &first.ports.as_ref().unwrap()[0];
        assert_eq!((port.port, port.protocol.as_deref()), (Some(8080), Some("TCP")));
        let told: Vec<_> = plan.events.iter().map(|(_, notice)| notice.reason).collect();
        assert_eq!(told, ["InvalidIPAddress"]);
    }

    #[test]
    fn what_others_keep_or_nobody_meant_is_not_mirrored() {
        for (selector, labels) in [
            (json!({"app": "a"}), Value::Null),
            (Value::Null, json!({SKIP: "true"})),
        ] {
            let view = view(selector, labels, subsets());
            assert_eq!(plan(&view), Plan::nothing());
        }
    }

    #[test]
    fn slices_follow_and_go() {
        let before = view(Value::Null, Value::Null, subsets());
        let after = view(
            Value::Null,
            Value::Null,
            json!([{
                "addresses": [{"ip": "192.0.2.1", "hostname": "one"}], "ports": [{"name": "web", "port": 8080}],
            }]),
        );
        let none = view(Value::Null, Value::Null, Value::Null);
        for slice in created(&plan(&before)) {
            for view in [&before, &after, &none] {
                view.slices.apply(slice.clone());
            }
        }
        assert_eq!(plan(&before).writes, []);
        let kinds = |plan: Plan| -> Vec<&str> {
            let kind = |write: &Write| match write {
                Write::Update(..) => "update",
                Write::Delete { .. } => "delete",
                _ => "other",
            };
            plan.writes.iter().map(kind).collect()
        };
        assert_eq!(kinds(plan(&after)), ["update", "delete"]);
        assert_eq!(kinds(plan(&none)), ["delete", "delete"]);
    }
}
