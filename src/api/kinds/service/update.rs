//! Changing a service: what the server handed out is kept, or given back when the type no longer has it.

use serde_json::{Value, json};

use super::types::{addresses, may_have_node_ports, needs_cluster_ip};
use super::validate;
use crate::status::FieldError;
use crate::value::{Field, each, get, get_mut, int, keep, list, remove, same, set, text};

/// Before a spec write: status stays, and so do allocated values that the writer left out.
pub fn prepare(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    align_cluster_ips(new, old);
    carry_over(new, old);
    drop_what_the_type_lacks(new, old);
    drop_second_family(new, old);
    addresses(new);
}

/// Who goes back to one family need not take the other's fields out.
fn drop_second_family(new: &mut Value, old: &Value) {
    let before = get(old, "spec");
    let was_dual = !matches!(text(before, "ipFamilyPolicy"), "" | "SingleStack");
    let Some(spec) = get_mut(new, "spec") else { return };
    if !was_dual || text(spec, "ipFamilyPolicy") != "SingleStack" {
        return;
    }
    for key in ["clusterIPs", "ipFamilies"] {
        let first = list(spec, key).first().cloned();
        if let Some(first) = first.filter(|_| same(get(spec, key), get(before, key))) {
            set(spec, key, json!([first]));
        }
    }
}

/// A writer that knows only `clusterIP` may change it without touching `clusterIPs`, and the other way round.
fn align_cluster_ips(new: &mut Value, old: &Value) {
    let before = get(old, "spec");
    let Some(spec) = get_mut(new, "spec") else { return };
    let ip_same = text(spec, "clusterIP") == text(before, "clusterIP");
    let ips_same = same(get(spec, "clusterIPs"), get(before, "clusterIPs"));
    let ip = text(spec, "clusterIP").to_owned();
    match (ip_same, ips_same) {
        (false, true) if ip.is_empty() => remove(spec, "clusterIPs"),
        (false, true) => set(spec, "clusterIPs", json!([ip])),
        (false, false) if !ip.is_empty() && list(spec, "clusterIPs").is_empty() => {
            set(spec, "clusterIPs", json!([ip]))
        }
        _ => {}
    }
}

fn carry_over(new: &mut Value, old: &Value) {
    let before = get(old, "spec");
    let Some(spec) = get_mut(new, "spec") else { return };
    let (kind, old_kind) = (text(spec, "type").to_owned(), text(before, "type"));
    if needs_cluster_ip(&kind) && needs_cluster_ip(old_kind) {
        for key in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            if Field::at(spec, key).is_blank() {
                keep(spec, before, key);
            }
        }
    }
    if may_have_node_ports(&kind) && may_have_node_ports(old_kind) {
        let taken: Vec<i64> = list(spec, "ports")
            .iter()
            .filter_map(|p| int(p, "nodePort"))
            .collect();
        let number = |p: &Value| (text(p, "protocol").to_owned(), int(p, "port"));
        each(spec, "ports", |port| {
            let twin = list(before, "ports").iter().find(|p| number(p) == number(port));
            let kept = twin
                .and_then(|p| int(p, "nodePort"))
                .filter(|n| *n != 0 && !taken.contains(n));
            if int(port, "nodePort").unwrap_or(0) == 0
                && let Some(n) = kept
            {
                set(port, "nodePort", n);
            }
        });
    }
    let checked =
        |s: &Value| text(s, "type") == "LoadBalancer" && text(s, "externalTrafficPolicy") == "Local";
    if checked(spec) && checked(before) && int(spec, "healthCheckNodePort").unwrap_or(0) == 0 {
        keep(spec, before, "healthCheckNodePort");
    }
}

/// Fields that the old type had and the new one has not go, unless the writer changed them too.
fn drop_what_the_type_lacks(new: &mut Value, old: &Value) {
    let before = get(old, "spec");
    let Some(spec) = get_mut(new, "spec") else { return };
    let (kind, old_kind) = (text(spec, "type").to_owned(), text(before, "type"));
    let mut lost: Vec<&str> = Vec::new();
    if needs_cluster_ip(old_kind) && !needs_cluster_ip(&kind) {
        lost.extend([
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ]);
    }
    let outside = |s: &Value, kind: &str| may_have_node_ports(kind) || !list(s, "externalIPs").is_empty();
    if outside(before, old_kind) && !outside(spec, &kind) {
        lost.push("externalTrafficPolicy");
    }
    if old_kind == "LoadBalancer" && kind != "LoadBalancer" {
        lost.extend(["allocateLoadBalancerNodePorts", "loadBalancerClass"]);
    }
    let checked =
        |s: &Value, kind: &str| kind == "LoadBalancer" && text(s, "externalTrafficPolicy") == "Local";
    if checked(before, old_kind) && !checked(spec, &kind) {
        lost.push("healthCheckNodePort");
    }
    for key in lost {
        if same(get(spec, key), get(before, key)) {
            remove(spec, key);
        }
    }
    if may_have_node_ports(old_kind) && !may_have_node_ports(&kind) {
        let kept: Vec<i64> = list(before, "ports")
            .iter()
            .filter_map(|p| int(p, "nodePort"))
            .collect();
        each(spec, "ports", |port| {
            if int(port, "nodePort").is_some_and(|n| kept.contains(&n)) {
                remove(port, "nodePort");
            }
        });
    }
}

/// Rules for a change.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (spec, before) = (Field::at(new, "spec"), get(old, "spec"));
    if needs_cluster_ip(spec.get("type").text()) && needs_cluster_ip(text(before, "type")) {
        kept(&spec, before, &mut errors);
    }
    let balancers = spec.get("type").text() == "LoadBalancer" && text(before, "type") == "LoadBalancer";
    let class = spec.get("loadBalancerClass");
    if balancers && class.text() != text(before, "loadBalancerClass") {
        errors.push(class.invalid("may not change once set"));
    }
    errors.extend(validate::service(new));
    errors
}

/// Addresses and families stay, but for a second one, which comes and goes with the policy.
fn kept(spec: &Field, before: &Value, errors: &mut Vec<FieldError>) {
    let single = spec.get("ipFamilyPolicy").text() == "SingleStack";
    for key in ["clusterIPs", "ipFamilies"] {
        let (field, now, then) = (spec.get(key), spec.items(key), list(before, key));
        for (i, old) in then.iter().enumerate() {
            let new = now.get(i).map(|field| field.value);
            let why = match new {
                Some(new) if same(new, old) => continue,
                // Another address before, or an address where there was none.
                Some(_) => "may not change once set",
                None if i == 0 && key == "clusterIPs" => "primary clusterIP can not be unset",
                None if i == 0 => "primary ipFamily can not be unset",
                None if single => continue,
                None => "may not be removed while `ipFamilyPolicy` is not 'SingleStack'",
            };
            errors.push(FieldError::invalid(
                spec.path_of(&format!("{key}[{i}]")),
                field.value.clone(),
                why,
            ));
        }
    }
}
