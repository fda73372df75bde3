//! Address families of a Service: which it has, and an address for each, as
//! the cluster's ranges allow.

use std::net::IpAddr;

use api::object;
use api::status::{FieldError, FieldErrorKind};
use api::value;
use serde_json::{Value, json};

use super::Core;
use super::addresses::ServiceRange;
use super::ranges;
use super::services::needs::{cluster_ips, is_blank, is_headless, needs_cluster_ip};
use super::services::records::ip_key;

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// Fills in policy and families, from what was given and what the cluster has.
pub(super) fn settle(
    ranges: &[ServiceRange],
    service: &mut Value,
    live: Option<&Value>,
    errors: &mut Vec<FieldError>,
) {
    if !needs_cluster_ip(service) || live.is_some_and(|live| is_settled(service, live)) {
        return;
    }
    align(service);
    by_addresses(ranges, service, errors);
    if !errors.is_empty() {
        return;
    }
    let policy = policy(service);
    object::set(service, &["spec", "ipFamilyPolicy"], policy.clone());
    let mut families = families(service);
    // A headless Service without selector may list any addresses, whatever the cluster has.
    let free = is_free(service);
    if !free {
        errors.extend(unconfigured(ranges, &families, &policy));
    }
    if families.is_empty() {
        families.extend(ranges.first().map(|range| range.family().to_owned()));
    }
    if policy != SINGLE && families.len() == 1 && (free || ranges.len() == 2) {
        families.push(if families[0] == "IPv4" { "IPv6" } else { "IPv4" }.to_owned());
    }
    object::set(service, &["spec", "ipFamilies"], json!(families));
}

/// A Service that only prefers two families stays as it was made, whatever
/// ranges the cluster has got or lost since.
fn is_settled(service: &Value, live: &Value) -> bool {
    let same = |path: &str| value::get(service, path) == value::get(live, path);
    let prefers = |of: &Value| value::text(of, "spec.ipFamilyPolicy") == PREFER;
    prefers(service) && prefers(live) && same("spec.ipFamilies") && same("spec.clusterIPs")
}

/// `clusterIP` and the first of `clusterIPs` are the same.
fn align(service: &mut Value) {
    let first = value::text(service, "spec.clusterIP").to_owned();
    if !first.is_empty() && is_blank(value::get(service, "spec.clusterIPs")) {
        object::set(service, &["spec", "clusterIPs"], json!([first]));
    } else if first.is_empty() {
        let given = value::list(service, "spec.clusterIPs").first().cloned();
        if let Some(given) = given {
            object::set(service, &["spec", "clusterIP"], given);
        }
    }
}

/// Addresses that were given say their families.
fn by_addresses(ranges: &[ServiceRange], service: &mut Value, errors: &mut Vec<FieldError>) {
    let mut families = families(service);
    let ips = value::list(service, "spec.clusterIPs").to_vec();
    for (i, ip) in ips.iter().enumerate().skip(families.len()) {
        let Some(Ok(ip)) = ip.as_str().map(str::parse::<IpAddr>) else {
            return;
        };
        let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
        if ranges.iter().all(|range| range.family() != family) {
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(
                format!("spec.clusterIPs[{i}]"),
                ips.clone(),
                why,
            ));
        }
        families.push(family.to_owned());
        object::set(service, &["spec", "ipFamilies"], json!(families));
    }
}

/// The policy that was given, or the one that what was given implies.
fn policy(service: &Value) -> String {
    match value::text(service, "spec.ipFamilyPolicy") {
        "" => {
            let two = |path| value::list(service, path).len() == 2;
            let dual = is_free(service) || two("spec.clusterIPs") || two("spec.ipFamilies");
            if dual { REQUIRE } else { SINGLE }.to_owned()
        }
        given => given.to_owned(),
    }
}

fn unconfigured(ranges: &[ServiceRange], families: &[String], policy: &str) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, family) in families.iter().enumerate() {
        if ranges.iter().all(|range| range.family() != family) {
            let why = "not configured on this cluster";
            errors.push(FieldError::invalid(
                format!("spec.ipFamilies[{i}]"),
                family.clone(),
                why,
            ));
        }
    }
    if policy == REQUIRE && ranges.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid("spec.ipFamilyPolicy", policy, why));
    }
    errors
}

/// Gives a Service an address of each of its families, unless it has one.
pub(super) fn allocate(core: &Core, service: &mut Value, before: &[String], errors: &mut Vec<FieldError>) {
    if !needs_cluster_ip(service) || is_headless(service) {
        return;
    }
    let inner = &core.inner;
    let taken = |ip: &str| inner.store.peek(&ip_key(ip)).is_some();
    let mut ips = cluster_ips(service);
    let all = ranges::open(core);
    for (i, family) in families(service).iter().enumerate() {
        if inner.service_ranges.iter().all(|range| range.family() != family) {
            continue;
        }
        let mut ranges = all.iter().filter(|range| range.family() == family);
        let is_taken = |ip: IpAddr| taken(&ip.to_string());
        match ips.get(i) {
            Some(ip) if before.contains(&ip_key(ip)) => {}
            Some(ip) => errors.extend(unusable(&all, ip, taken(ip), &ips)),
            None => match ranges.find_map(|range| range.pick(&*inner.config.random, is_taken)) {
                Some(ip) => ips.push(ip.to_string()),
                None => errors.push(FieldError {
                    kind: FieldErrorKind::Internal,
                    path: "spec.clusterIPs".into(),
                    value: None,
                    detail: "failed to allocate a serviceIP: range is full".into(),
                }),
            },
        }
    }
    if let Some(first) = ips.first() {
        object::set(service, &["spec", "clusterIP"], first.clone());
        object::set(service, &["spec", "clusterIPs"], json!(ips));
    }
}

/// What is wrong with an address that was asked for.
fn unusable(ranges: &[ServiceRange], ip: &str, taken: bool, all: &[String]) -> Option<FieldError> {
    // The kind's own rules say what is wrong with what is no address.
    let parsed: IpAddr = ip.parse().ok()?;
    let why = if !ranges.iter().any(|range| range.contains(parsed)) {
        "the provided network does not match the current range"
    } else if taken {
        "provided IP is already allocated"
    } else {
        return None;
    };
    let why = format!("failed to allocate IP {ip}: {why}");
    Some(FieldError::invalid("spec.clusterIPs", all.to_vec(), why))
}

fn families(service: &Value) -> Vec<String> {
    let listed = value::list(service, "spec.ipFamilies");
    listed
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

/// Headless and without a selector: whoever writes its endpoints decides.
fn is_free(service: &Value) -> bool {
    let selector = value::get(service, "spec.selector").as_object();
    is_headless(service) && selector.is_none_or(serde_json::Map::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUAL: &str = "10.43.0.0/16,fd43::/112";
    const ONE: &str = "10.43.0.0/16";

    /// Policy and families, or the errors, of a new Service in a cluster with those ranges.
    fn settled(ranges: &str, spec: Value) -> String {
        let mut service = json!({"spec": spec});
        let mut errors = Vec::new();
        let ranges = ServiceRange::parse_all(ranges).unwrap();
        settle(&ranges, &mut service, None, &mut errors);
        if errors.is_empty() {
            let policy = value::text(&service, "spec.ipFamilyPolicy");
            return format!("{policy} {}", families(&service).join(" "));
        }
        errors
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn what_is_not_said_follows_from_what_is_and_from_the_cluster() {
        let cases = [
            (DUAL, json!({}), "SingleStack IPv4"),
            (
                DUAL,
                json!({"ipFamilyPolicy": PREFER}),
                "PreferDualStack IPv4 IPv6",
            ),
            (ONE, json!({"ipFamilyPolicy": PREFER}), "PreferDualStack IPv4"),
            (DUAL, json!({"ipFamilies": ["IPv6"]}), "SingleStack IPv6"),
            (
                DUAL,
                json!({"ipFamilies": ["IPv6"], "ipFamilyPolicy": REQUIRE}),
                "RequireDualStack IPv6 IPv4",
            ),
            (
                DUAL,
                json!({"ipFamilies": ["IPv6", "IPv4"]}),
                "RequireDualStack IPv6 IPv4",
            ),
            (DUAL, json!({"clusterIP": "fd43::7"}), "SingleStack IPv6"),
            (
                DUAL,
                json!({"clusterIPs": ["fd43::7", "10.43.0.7"]}),
                "RequireDualStack IPv6 IPv4",
            ),
            (ONE, json!({"clusterIP": "None"}), "RequireDualStack IPv4 IPv6"),
            (
                ONE,
                json!({"clusterIP": "None", "selector": {"a": "b"}}),
                "SingleStack IPv4",
            ),
            ("fd43::/112", json!({}), "SingleStack IPv6"),
        ];
        for (ranges, spec, expected) in cases {
            assert_eq!(settled(ranges, spec.clone()), expected, "{spec}");
        }
    }

    #[test]
    fn what_the_cluster_lacks_is_refused() {
        assert_eq!(
            settled(ONE, json!({"ipFamilyPolicy": REQUIRE})),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": \
             this cluster is not configured for dual-stack services"
        );
        assert_eq!(
            settled(ONE, json!({"ipFamilies": ["IPv6"]})),
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster"
        );
        assert_eq!(
            settled(ONE, json!({"clusterIP": "fd43::7"})),
            "spec.clusterIPs[0]: Invalid value: [\"fd43::7\"]: IPv6 is not configured on this cluster"
        );
    }
}
