//! Rules for a service (`pkg/apis/core/validation`).

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::types::{may_have_node_ports, needs_cluster_ip};
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
    cluster_ips(&spec, &mut errors);
    for ip in spec.items("externalIPs") {
        let wrong = names::is_ip(ip.text());
        let wrong = if wrong.is_empty() {
            names::is_special_ip(ip.text())
        } else {
            wrong
        };
        errors.extend(ip.invalid_each(wrong));
    }
    kind.one_of(
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
        &mut errors,
    );
    repeated_ports(&spec, &mut errors);
    load_balancer(&spec, &mut errors);
    policies(&spec, &mut errors);
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
    let mut seen = BTreeSet::new();
    for port in &all {
        let (name, number, protocol) = (port.get("name"), port.get("port"), port.get("protocol"));
        if !name.is_blank() {
            errors.extend(name.invalid_each(names::is_dns_label(name.text())));
            if !seen.insert(name.text()) {
                errors.push(name.duplicate());
            }
        } else if several {
            errors.push(name.required(""));
        }
        let n = number.int().unwrap_or(0);
        for why in names::is_port_number(n) {
            errors.push(FieldError::invalid(&number.path, n, why));
        }
        protocol.one_of(&["SCTP", "TCP", "UDP"], errors);
        target_port(port, errors);
        let application = port.get("appProtocol");
        if application.is_set() {
            errors.extend(application.invalid_each(names::is_qualified_name(application.text())));
        }
    }
}

/// Ports of the node are for those types that have them; no two ports of one protocol are the same.
fn repeated_ports(spec: &Field, errors: &mut Vec<FieldError>) {
    let all = spec.items("ports");
    let node_port = |port: &Field| port.get("nodePort").int().filter(|n| *n != 0);
    if spec.get("type").text() == "ClusterIP" {
        for port in all.iter().filter(|port| node_port(port).is_some()) {
            let why = "may not be used when `type` is 'ClusterIP'";
            errors.push(port.get("nodePort").forbidden(why));
        }
    }
    let (mut seen_nodes, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for port in &all {
        let protocol = port.get("protocol").text();
        if node_port(port).is_some_and(|n| !seen_nodes.insert((protocol, n))) {
            errors.push(port.get("nodePort").duplicate());
        }
    }
    for port in &all {
        let (protocol, n) = (port.get("protocol").text(), port.get("port").int().unwrap_or(0));
        if !seen.insert((protocol, n)) {
            // As Go writes a ServicePort of which only these are set.
            let shown = json!({"protocol": protocol, "port": n, "targetPort": 0});
            errors.push(FieldError::duplicate(&port.path, shown));
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
            for field in [
                config.clone(),
                config.get("clientIP"),
                config.get("clientIP.timeoutSeconds"),
            ] {
                if !field.is_set() {
                    errors.push(field.required("when session affinity type is ClientIP"));
                    return;
                }
            }
            let seconds = config.get("clientIP.timeoutSeconds");
            if seconds.int().is_some_and(|n| n <= 0 || n > STICKY_SECONDS_MAX) {
                let why = format!("must be greater than 0 and less than {STICKY_SECONDS_MAX}");
                errors.push(seconds.invalid(why));
            }
        }
        "None" if config.is_set() => {
            errors.push(config.forbidden("must not be set when session affinity is None"));
        }
        _ => {}
    }
}

fn load_balancer(spec: &Field, errors: &mut Vec<FieldError>) {
    const ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
    let is_balancer = spec.get("type").text() == "LoadBalancer";
    // Kubernetes writes this path with a capital letter.
    let ranges = Field::new(
        spec.get("loadBalancerSourceRanges").value,
        spec.path_of("LoadBalancerSourceRanges"),
    );
    if !ranges.is_blank() && !is_balancer {
        errors.push(ranges.forbidden(ONLY));
    }
    for (i, range) in spec.items("loadBalancerSourceRanges").iter().enumerate() {
        let text = range.text().trim();
        let path = format!("{}[{i}]", ranges.path);
        let wrong = names::is_cidr(text);
        errors.extend(wrong.into_iter().map(|why| FieldError::invalid(&path, text, why)));
    }
    let allocate = spec.get("allocateLoadBalancerNodePorts");
    if allocate.is_set() && !is_balancer {
        errors.push(allocate.forbidden(ONLY));
    }
    if is_balancer && !allocate.is_set() {
        errors.push(FieldError::required("allocateLoadBalancerNodePorts", ""));
    }
    let class = spec.get("loadBalancerClass");
    if class.is_set() && is_balancer {
        errors.extend(class.invalid_each(names::is_qualified_name(class.text())));
    } else if class.is_set() {
        errors.push(class.forbidden(ONLY));
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
    if needs_check {
        // Without a number the registry hands one out.
        let number = check.int().filter(|n| *n != 0);
        errors.extend(check.invalid_each(number.map_or(Vec::new(), names::is_port_number)));
    } else if check.int().unwrap_or(0) != 0 {
        errors.push(
            check.invalid(
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
        );
    }
    let internal = spec.get("internalTrafficPolicy");
    if needs_cluster_ip(kind) && !internal.is_set() {
        errors.push(internal.required(""));
    } else if internal.is_set() && !KNOWN.contains(&internal.text()) {
        errors.push(internal.not_supported(&KNOWN));
    }
    spec.get("trafficDistribution")
        .one_of_if_set(&["PreferClose", "PreferSameNode", "PreferSameZone"], errors);
}

fn cluster_ips(spec: &Field, errors: &mut Vec<FieldError>) {
    if !needs_cluster_ip(spec.get("type").text()) {
        return;
    }
    let (field, all) = (spec.get("clusterIPs"), spec.items("clusterIPs"));
    let first = spec.get("clusterIP").text();
    match (first.is_empty(), all.first()) {
        (false, None) => errors.push(field.required("")),
        (false, Some(ip)) if ip.text() != first => {
            errors.push(field.invalid("first value must match `clusterIP`"))
        }
        (true, Some(_)) => errors.push(field.invalid("must be empty when `clusterIP` is not specified")),
        _ => {}
    }
    families(spec, errors);
    spec.get("ipFamilyPolicy")
        .one_of_if_set(&["PreferDualStack", "RequireDualStack", "SingleStack"], errors);
    let mut wrong = Vec::new();
    for (i, ip) in all.iter().enumerate() {
        if ip.text() != "None" || i > 0 {
            wrong.extend(ip.invalid_each(names::is_ip(ip.text())));
        } else if all.len() > 1 {
            wrong.push(field.invalid("'None' must be the first and only value"));
        }
    }
    let readable = wrong.is_empty();
    errors.extend(wrong);
    if all.len() > 2 {
        errors.push(field.invalid("may only hold up to 2 values"));
    }
    // What is no address has no family to speak of.
    if !readable {
        return;
    }
    let is_ipv6 = |ip: &Field| ip.text().contains(':');
    if let [first, second] = &all[..]
        && is_ipv6(first) == is_ipv6(second)
    {
        errors.push(field.invalid("may specify no more than one IP for each IP family"));
    }
    for (i, (ip, family)) in all.iter().zip(&spec.items("ipFamilies")).enumerate() {
        let is = if is_ipv6(ip) { "IPv6" } else { "IPv4" };
        if ip.text() != "None" && matches!(family.text(), "IPv4" | "IPv6") && family.text() != is {
            let expected = family.text();
            errors.push(ip.invalid(format!(
                "expected an {expected} value as indicated by `ipFamilies[{i}]`"
            )));
        }
    }
}

fn families(spec: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for family in spec.items("ipFamilies") {
        if !["IPv4", "IPv6"].contains(&family.text()) {
            errors.push(family.not_supported(&["IPv4", "IPv6"]));
        }
        if !seen.insert(family.text()) {
            errors.push(family.duplicate());
        }
    }
}
