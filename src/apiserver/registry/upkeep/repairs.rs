//! What Services are told of their addresses, and addresses of their Services, in Kubernetes' reasons and words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::cidr::Cidr;
use api::object;
use api::value;
use client::{EventType, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::Value;

/// Who says so.
pub const COMPONENT: &str = "ipallocator-repair-controller";

/// Tells Services. What lasts is told once, until it is over.
pub(super) struct Repairs {
    recorder: Recorder,
    outside: BTreeSet<IpAddr>,
}

impl Repairs {
    /// Tells by that recorder.
    pub fn new(recorder: Recorder) -> Self {
        Self {
            recorder,
            outside: BTreeSet::new(),
        }
    }

    /// The record of an address was gone, and is written again.
    pub fn not_allocated(&self, service: &Value, ip: IpAddr) {
        let text = format!("Cluster IP [{}]: {ip} is not allocated; repairing", family(ip));
        self.tell(service, "ClusterIPNotAllocated", text);
    }

    /// The record of an address went to another Service before it could be written again.
    pub fn already_allocated(&self, service: &Value, ip: IpAddr) {
        let family = family(ip);
        let text =
            format!("Cluster IP [{family}]:{ip} was assigned to multiple services; please recreate service");
        self.tell(service, "ClusterIPAlreadyAllocated", text);
    }

    /// A record was removed, since the Service that it names does not have the address, or is not there.
    pub fn removed(&self, record: &Value, is_service_there: bool) {
        let (reason, text) = why_removed(record, is_service_there);
        self.tell(record, reason, text);
    }

    /// These Services have addresses that lie in none of the ranges there are.
    pub fn out_of_range(&mut self, found: &[(IpAddr, Value)]) {
        let before = std::mem::replace(&mut self.outside, found.iter().map(|(ip, _)| *ip).collect());
        for (ip, service) in found.iter().filter(|(ip, _)| !before.contains(ip)) {
            let family = family(*ip);
            let text = format!(
                "Cluster IP [{family}]: {ip} is not within any configured Service CIDR; please recreate service"
            );
            self.tell(service, "ClusterIPOutOfRange", text);
        }
    }

    fn tell(&self, object: &Value, reason: &str, text: String) {
        let part = |text: &str| Some(text.to_owned());
        let about = ObjectReference {
            api_version: part(object::api_version(object)),
            kind: part(object::kind(object)),
            namespace: part(object::namespace(object)).filter(|namespace| !namespace.is_empty()),
            name: part(object::name(object)),
            uid: part(object::uid(object)),
            ..ObjectReference::default()
        };
        self.recorder.event(&about, EventType::Warning, reason, text);
    }
}

/// Whether an address lies in one of the ranges that ServiceCIDRs name, whatever becomes of them.
pub(super) fn is_within(ip: IpAddr, ranges: &[Value]) -> bool {
    let cidrs = ranges.iter().flat_map(|range| value::list(range, "spec.cidrs"));
    let mut cidrs = cidrs.filter_map(|cidr| cidr.as_str()?.parse::<Cidr>().ok());
    cidrs.any(|cidr| cidr.contains(ip))
}

/// Reason and words of a record's end.
fn why_removed(record: &Value, is_service_there: bool) -> (&'static str, String) {
    let part = |key: &str| value::text(record, &format!("spec.parentRef.{key}"));
    let (ip, namespace, name) = (object::name(record), part("namespace"), part("name"));
    let said = format!("IPAddress: {ip} for Service {namespace}/{name}");
    match is_service_there {
        true => (
            "IPAddressWrongReference",
            format!("{said} has a wrong reference; cleaning up"),
        ),
        false => (
            "IPAddressNotAllocated",
            format!("{said} appears to have leaked: cleaning up"),
        ),
    }
}

fn family(ip: IpAddr) -> &'static str {
    match ip {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn records_that_go_are_told_why() {
        let record = json!({
            "metadata": {"name": "10.43.0.9"},
            "spec": {"parentRef": {"resource": "services", "namespace": "shop", "name": "till"}},
        });
        let (reason, text) = why_removed(&record, false);
        assert_eq!(reason, "IPAddressNotAllocated");
        assert_eq!(
            text,
            "IPAddress: 10.43.0.9 for Service shop/till appears to have leaked: cleaning up"
        );
        assert_eq!(why_removed(&record, true).0, "IPAddressWrongReference");
    }

    #[test]
    fn addresses_lie_in_ranges() {
        let ranges = [
            json!({"spec": {"cidrs": ["10.43.0.0/16", "fd00::/112"]}}),
            json!({"spec": {"cidrs": ["10.9.0.0/24"]}}),
        ];
        for (ip, within) in [
            ("10.43.0.7", true),
            ("10.9.0.7", true),
            ("fd00::9", true),
            ("10.44.0.1", false),
        ] {
            assert_eq!(is_within(ip.parse().unwrap(), &ranges), within, "{ip}");
        }
    }
}
