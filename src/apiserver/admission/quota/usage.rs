//! What an object counts as. Pure.

use api::pod::Amounts;
use api::quantity::{Format, Quantity};
use api::value;
use jiff::Timestamp;
use serde_json::Value;

use super::pods;
use crate::admission::storage::class_of;

const OF_CLASS: &str = ".storageclass.storage.k8s.io/";
const DEVICES: &str = ".deviceclass.resource.k8s.io/devices";

/// A sort of objects, by its resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Counted<'a> {
    /// API group.
    pub group: &'a str,
    /// Plural name.
    pub plural: &'a str,
}

/// Whether objects of that resource are counted at all. Events come and go by themselves.
pub fn is_counted(group: &str, plural: &str) -> bool {
    !matches!((group, plural), ("" | "events.k8s.io", "events"))
}

/// The resource that a name of a quota counts, if that is only one; an error of reading is nobody's resource.
pub fn counted_as(name: &str) -> Option<Counted<'_>> {
    let of = |group, plural| Some(Counted { group, plural });
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return of(group, plural);
    }
    match name {
        "configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets" => of("", name),
        "services" | "services.nodeports" | "services.loadbalancers" => of("", "services"),
        "persistentvolumeclaims" | "requests.storage" => of("", "persistentvolumeclaims"),
        _ if name.contains(OF_CLASS) => of("", "persistentvolumeclaims"),
        _ if name.ends_with(DEVICES) => of("resource.k8s.io", "resourceclaims"),
        _ if pods::is_counted_by(name) => of("", "pods"),
        _ => None,
    }
}

impl Counted<'_> {
    /// Whether it is that resource.
    pub fn is(&self, group: &str, plural: &str) -> bool {
        self.group == group && self.plural == plural
    }

    /// Whether a name of a quota counts such objects.
    pub fn is_counted_by(&self, name: &str) -> bool {
        counted_as(name).is_some_and(|counted| counted.is(self.group, self.plural))
    }

    /// What one object uses.
    pub fn usage(&self, object: &Value, now: Timestamp) -> Amounts {
        let one = || Quantity::new(1, Format::DecimalSi);
        let mut used = Amounts::new();
        let count = match self.group {
            "" => format!("count/{}", self.plural),
            group => format!("count/{}.{group}", self.plural),
        };
        used.insert(count, one());
        match (self.group, self.plural) {
            ("", "pods") => used.extend(pods::usage(object, now)),
            ("", "services") => used.extend(service(object)),
            ("", "persistentvolumeclaims") => used.extend(claim(object)),
            ("", plural @ ("configmaps" | "resourcequotas" | "replicationcontrollers" | "secrets")) => {
                used.insert(plural.to_owned(), one());
            }
            ("resource.k8s.io", "resourceclaims") => used.extend(devices(object)),
            _ => {}
        }
        used
    }
}

fn number(n: usize) -> Quantity {
    Quantity::new(i64::try_from(n).unwrap_or(i64::MAX), Format::DecimalSi)
}

fn service(service: &Value) -> Amounts {
    let ports = value::list(service, "spec.ports");
    let given = ports
        .iter()
        .filter(|port| value::int(port, "nodePort").is_some_and(|n| n != 0));
    let allocates = value::get(service, "spec.allocateLoadBalancerNodePorts").as_bool();
    let (node_ports, balancers) = match value::text(service, "spec.type") {
        "NodePort" => (ports.len(), 0),
        "LoadBalancer" if allocates == Some(false) => (given.count(), 1),
        "LoadBalancer" => (ports.len(), 1),
        _ => (0, 0),
    };
    Amounts::from([
        ("services".to_owned(), number(1)),
        ("services.nodeports".to_owned(), number(node_ports)),
        ("services.loadbalancers".to_owned(), number(balancers)),
    ])
}

fn claim(claim: &Value) -> Amounts {
    let read = |path: &str| {
        let given = value::get(claim, path).get("storage");
        given
            .and_then(|given| Quantity::from_json(given).ok())
            .unwrap_or_default()
    };
    // While a claim grows, the larger of what is asked for and what is given already counts.
    let asked = read("spec.resources.requests").max(read("status.allocatedResources"));
    let storage = Quantity::new(asked.value(), asked.format());
    let mut used = Amounts::from([
        ("persistentvolumeclaims".to_owned(), number(1)),
        ("requests.storage".to_owned(), storage),
    ]);
    let class = class_of(claim);
    if !class.is_empty() {
        used.insert(format!("{class}{OF_CLASS}persistentvolumeclaims"), number(1));
        used.insert(format!("{class}{OF_CLASS}requests.storage"), storage);
    }
    used
}

/// The most devices of each class that a claim may be given.
fn devices(claim: &Value) -> Amounts {
    let mut used = Amounts::new();
    let mut most = |class: &str, count: i64| {
        if !class.is_empty() {
            let sum = used.entry(format!("{class}{DEVICES}")).or_insert(Quantity::ZERO);
            *sum += Quantity::new(count, Format::DecimalSi);
        }
    };
    // As many as one claim can be given (resource.k8s.io: AllocationResultsMaxSize).
    let of = |request: &Value| match value::text(request, "allocationMode") {
        "All" => 32,
        _ => value::int(request, "count").unwrap_or(1),
    };
    for request in value::list(claim, "spec.devices.requests") {
        let exact = value::get(request, "exactly");
        if exact.is_object() {
            most(value::text(exact, "deviceClassName"), of(exact));
        }
        let mut choices = std::collections::BTreeMap::new();
        for choice in value::list(request, "firstAvailable") {
            let highest = choices.entry(value::text(choice, "deviceClassName")).or_insert(0);
            *highest = of(choice).max(*highest);
        }
        choices.into_iter().for_each(|(class, count)| most(class, count));
    }
    used
}
