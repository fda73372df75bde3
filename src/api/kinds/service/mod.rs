//! Service: one address for many pods.

mod row;
mod types;
mod update;
mod validate;
mod warnings;

use types::addresses;

use serde_json::{Value, json};

use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::value::{each, fill, fill_text, get, get_mut, keep, list, remove, set, text};

/// Seconds for which a client sticks to a pod, unless said otherwise.
const STICKY_SECONDS: i64 = 10800;

/// The descriptor. Cluster IPs and node ports are the server's to hand out.
pub static KIND: Kind = Kind {
    kind: "Service",
    plural: "services",
    singular: "service",
    returns_deleted: true,
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[
        Subresource::new(
            "proxy",
            "ServiceProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        Subresource::status("Service"),
    ],
    create_on_update: true,
    storage_version_hash: "0/CO1lhkEBI=",
    name_rule: names::label_1035,
    default,
    prepare_create: |service| {
        set(service, "status", json!({"loadBalancer": {}}));
        addresses(service);
    },
    prepare_update: update::prepare,
    prepare_status: |new, old| keep(new, old, "spec"),
    validate: validate::service,
    validate_update: update::validate,
    warnings: warnings::service,
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    field_names: &["spec.clusterIP", "spec.type"],
    fields: |service| {
        vec![
            ("spec.clusterIP", text(service, "spec.clusterIP").to_owned()),
            ("spec.type", text(service, "spec.type").to_owned()),
        ]
    },
    columns: &[
        Column::NAME,
        Column::text("Type"),
        Column::text("Cluster-IP"),
        Column::text("External-IP"),
        Column::text("Port(s)"),
        Column::AGE,
        Column::text("Selector").wide(),
    ],
    row: row::row,
    ..Kind::NAMESPACED
};

fn default(service: &mut Value) {
    let is_balancer = text(service, "spec.type") == "LoadBalancer";
    each(service, "status.loadBalancer.ingress", |ingress| {
        if is_balancer && !text(ingress, "ip").is_empty() {
            fill_text(ingress, "ipMode", "VIP");
        }
    });
    let Some(spec) = get_mut(service, "spec") else {
        return;
    };
    fill_text(spec, "sessionAffinity", "None");
    if text(spec, "sessionAffinity") == "ClientIP" {
        fill(spec, "sessionAffinityConfig", json!({}));
        if let Some(config) = get_mut(spec, "sessionAffinityConfig") {
            fill(config, "clientIP", json!({}));
            if let Some(client) = get_mut(config, "clientIP") {
                fill(client, "timeoutSeconds", STICKY_SECONDS);
            }
        }
    } else {
        remove(spec, "sessionAffinityConfig");
    }
    fill_text(spec, "type", "ClusterIP");
    each(spec, "ports", |port| {
        fill_text(port, "protocol", "TCP");
        let number = get(port, "port").clone();
        let target = get(port, "targetPort");
        if target.is_null() || target == &json!(0) || target == "" {
            set(port, "targetPort", number);
        }
    });
    policies(spec);
}

fn policies(spec: &mut Value) {
    let kind = text(spec, "type").to_owned();
    let external = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let open = kind == "ClusterIP" && !list(spec, "externalIPs").is_empty();
    if external || open {
        fill_text(spec, "externalTrafficPolicy", "Cluster");
    }
    if external || kind == "ClusterIP" {
        fill_text(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        fill(spec, "allocateLoadBalancerNodePorts", true);
    }
    if kind == "ClusterIP" || external {
        // A number of 0 is an absent number.
        each(spec, "ports", |port| {
            if get(port, "nodePort") == &json!(0) {
                remove(port, "nodePort");
            }
        });
    }
}

#[cfg(test)]
mod tests;
