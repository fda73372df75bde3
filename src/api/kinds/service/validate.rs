//! Rules for a service (`pkg/apis/core/validation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{may_have_node_ports, needs_cluster_ip};
use crate::kinds::metadata;
use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// Longest time, in seconds, for which a client sticks to a pod.
const STICKY_SECONDS_MAX: i64 = 86400;

/// Rules for a service.
pub fn service(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(service, "spec");
    let kind = spec.get("type");
    let headless = spec.get("clusterIP").text() == "None";
    if spec.get("ports").is_blank() && !headless && kind.text() != "ExternalName" {
        errors.push(spec.get("ports").required(""));
    }
    by_type(&spec, headless, &mut errors);
    ports(&spec, &mut errors);
    metadata::labels(&spec.get("selector"), &mut errors);
    affinity(&spec, &mut errors);
    for ip in spec.items("externalIPs") {
        external_ip(&ip, &mut errors);
    }
    kind.one_of(
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        &mut errors,
    );
    load_balancer(&spec, &mut errors);
    policies(&spec, &mut errors);
    cluster_ips(&spec, &mut errors);
    errors
}

fn by_type(spec: &Field, headless: bool, errors: &mut Vec<FieldError>) {
    match spec.get("type").text() {
        "LoadBalancer" if headless => {
            let at = FieldError::invalid(
                spec.path_of("clusterIPs[0]"),
                "None",
                "may not be set to 'None' for LoadBalancer services",
            );
            errors.push(at);
        }
        "NodePort" if headless => {
            let at = FieldError::invalid(
                spec.path_of("clusterIPs[0]"),
                "None",
                "may not be set to 'None' for NodePort services",
            );
            errors.push(at);
        }
        "ExternalName" => {
            for key in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !spec.get(key).is_blank() {
                    errors.push(
                        spec.get(key)
                            .forbidden("may not be set for ExternalName services"),
                    );
                }
            }
            let name = spec.get("externalName");
            match name.text().trim_end_matches('.') {
                "" => errors.push(name.required("")),
                cname => errors.extend(name.invalid_each(names::is_dns_subdomain(cname))),
            }
        }
        _ => {}
    }
}

fn ports(spec: &Field, errors: &mut Vec<FieldError>) {
    let all = spec.items("ports");
    let several = all.len() > 1;
    let (mut seen_names, mut seen, mut seen_nodes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let kind = spec.get("type").text();
    for port in &all {
        let (name, number, protocol) = (port.get("name"), port.get("port"), port.get("protocol"));
        if name.is_blank() {
            if several {
                errors.push(name.required(""));
            }
        } else {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
            if !seen_names.insert(name.text()) {
                errors.push(name.duplicate());
            }
        }
        let n = number.int().unwrap_or(0);
        for why in names::is_port_number(n) {
            errors.push(FieldError::invalid(&number.path, n, why));
        }
        protocol.one_of(&["SCTP", "TCP", "UDP"], errors);
        target_port(port, errors);
        if !seen.insert((protocol.text(), n)) {
            errors.push(FieldError::duplicate(
                &port.path,
                json!({"port": n, "protocol": protocol.text()}),
            ));
        }
        let node = port.get("nodePort");
        let node_number = node.int().unwrap_or(0);
        if node_number == 0 {
            continue;
        }
        if !may_have_node_ports(kind) {
            let why = if kind == "ExternalName" {
                "ExternalName"
            } else {
                "ClusterIP"
            };
            errors.push(node.forbidden(format!("may not be used when `type` is '{why}'")));
        } else if !seen_nodes.insert((protocol.text(), node_number)) {
            errors.push(node.duplicate());
        }
    }
}

fn target_port(port: &Field, errors: &mut Vec<FieldError>) {
    let target = port.get("targetPort");
    match target.value {
        Value::String(name) => errors.extend(target.invalid_each(names::is_port_name(name))),
        Value::Number(n) => {
            errors.extend(target.invalid_each(names::is_port_number(n.as_i64().unwrap_or(0))))
        }
        _ => {}
    }
}

fn affinity(spec: &Field, errors: &mut Vec<FieldError>) {
    let affinity = spec.get("sessionAffinity");
    affinity.one_of(&["ClientIP", "None"], errors);
    let config = spec.get("sessionAffinityConfig");
    match affinity.text() {
        "ClientIP" => {
            let seconds = config.get("clientIP.timeoutSeconds");
            if seconds.int().is_none_or(|n| n <= 0 || n > STICKY_SECONDS_MAX) {
                errors.push(seconds.invalid(format!(
                    "must be greater than 0 and less than {STICKY_SECONDS_MAX}"
                )));
            }
        }
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn external_ip(ip: &Field, errors: &mut Vec<FieldError>) {
    let Ok(address) = ip.text().parse::<std::net::IpAddr>() else {
        errors.extend(ip.invalid_each(names::is_ip(ip.text())));
        return;
    };
    if address.is_unspecified() {
        errors.push(ip.invalid(format!("may not be unspecified ({})", ip.text())));
    }
    if address.is_loopback() {
        errors.push(ip.invalid("may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    }
    if matches!(address, std::net::IpAddr::V4(v4) if v4.is_link_local()) {
        errors.push(ip.invalid("may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
}

fn load_balancer(spec: &Field, errors: &mut Vec<FieldError>) {
    let is_balancer = spec.get("type").text() == "LoadBalancer";
    for key in [
        "loadBalancerSourceRanges",
        "loadBalancerClass",
        "allocateLoadBalancerNodePorts",
    ] {
        let field = spec.get(key);
        if field.is_set() && !field.is_blank() && !is_balancer {
            errors.push(field.forbidden("may only be used when `type` is 'LoadBalancer'"));
        }
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if is_balancer && !allocate.is_set() {
        errors.push(allocate.required("field is required when `type` is 'LoadBalancer'"));
    }
    for range in spec.items("loadBalancerSourceRanges") {
        errors.extend(range.invalid_each(names::is_cidr(range.text().trim())));
    }
    let class = spec.get("loadBalancerClass");
    if !class.is_blank() {
        errors.extend(class.invalid_each(names::is_qualified_name(class.text())));
    }
}

fn policies(spec: &Field, errors: &mut Vec<FieldError>) {
    const KNOWN: [&str; 2] = ["Cluster", "Local"];
    let kind = spec.get("type").text();
    let outside = may_have_node_ports(kind) || (kind == "ClusterIP" && !spec.get("externalIPs").is_blank());
    let external = spec.get("externalTrafficPolicy");
    if !outside {
        if !external.is_blank() {
            errors.push(external.invalid("may only be set for externally-accessible services"));
        }
    } else {
        external.one_of(&KNOWN, errors);
    }
    let check = spec.get("healthCheckNodePort");
    let needs_check = kind == "LoadBalancer" && external.text() == "Local";
    if !needs_check && check.int().unwrap_or(0) != 0 {
        errors.push(
            check.invalid(
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
        );
    }
    let internal = spec.get("internalTrafficPolicy");
    if needs_cluster_ip(kind) {
        internal.one_of(&KNOWN, errors);
    }
    spec.get("trafficDistribution")
        .one_of_if_set(&["PreferClose", "PreferSameNode", "PreferSameZone"], errors);
}

fn cluster_ips(spec: &Field, errors: &mut Vec<FieldError>) {
    if !needs_cluster_ip(spec.get("type").text()) {
        return;
    }
    let (field, all) = (spec.get("clusterIPs"), spec.items("clusterIPs"));
    if spec.get("clusterIP").text() != all.first().map_or("", Field::text) {
        errors.push(field.invalid("first value must match `clusterIP`"));
    }
    spec.get("ipFamilyPolicy")
        .one_of_if_set(&["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    let before = errors.len();
    for (i, ip) in all.iter().enumerate() {
        if ip.text() != "None" || i > 0 {
            errors.extend(ip.invalid_each(names::is_ip(ip.text())));
        } else if all.len() > 1 {
            errors.push(field.invalid("'None' must be the first and only value"));
        }
    }
    if all.len() > 2 {
        errors.push(field.invalid("may only hold up to 2 values"));
    }
    // What is no address has no family to speak of.
    if errors.len() > before {
        return;
    }
    let is_ipv6 = |ip: &Field| ip.text().contains(':');
    if let [first, second] = &all[..]
        && is_ipv6(first) == is_ipv6(second)
    {
        errors.push(field.invalid("may specify no more than one IP for each IP family"));
    }
    families(spec, &all, errors);
}

/// Families, and whether the addresses are of theirs.
fn families(spec: &Field, ips: &[Field], errors: &mut Vec<FieldError>) {
    let families = spec.items("ipFamilies");
    for (i, (ip, family)) in ips.iter().zip(&families).enumerate() {
        let is = if ip.text().contains(':') { "IPv6" } else { "IPv4" };
        if ip.text() != "None" && matches!(family.text(), "IPv4" | "IPv6") && family.text() != is {
            let expected = family.text();
            errors.push(ip.invalid(format!(
                "expected an {expected} value as indicated by `ipFamilies[{i}]`"
            )));
        }
    }
    let mut seen = BTreeSet::new();
    for family in &families {
        family.one_of_if_set(&["IPv4", "IPv6"], errors);
        if !seen.insert(family.text()) {
            errors.push(family.duplicate());
        }
    }
}
