//! A service as `kubectl get services` shows it.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::cells;
use crate::value::{get, int, list, text};

/// One row.
pub fn row(service: &Value, now: Timestamp) -> Vec<Value> {
    let first = list(service, "spec.clusterIPs").first().and_then(Value::as_str);
    let cluster_ip = first.unwrap_or_else(|| text(service, "spec.clusterIP"));
    vec![
        cells::name(service),
        json!(text(service, "spec.type")),
        json!(cells::or_none(cluster_ip)),
        json!(external(service)),
        json!(ports(service)),
        cells::age(service, now),
        json!(cells::labels(get(service, "spec.selector"))),
    ]
}

fn external(service: &Value) -> String {
    let own: Vec<&str> = list(service, "spec.externalIPs")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match text(service, "spec.type") {
        "ExternalName" => text(service, "spec.externalName").to_owned(),
        "LoadBalancer" => {
            let ingress = list(service, "status.loadBalancer.ingress").iter();
            let balanced: BTreeSet<&str> = ingress
                .map(|i| {
                    if text(i, "ip").is_empty() {
                        text(i, "hostname")
                    } else {
                        text(i, "ip")
                    }
                })
                .filter(|address| !address.is_empty())
                .collect();
            let all: Vec<&str> = balanced.into_iter().chain(own).collect();
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        _ => cells::or_none(own.join(",")),
    }
}

fn ports(service: &Value) -> String {
    let shown = list(service, "spec.ports").iter().map(|port| {
        let (number, protocol) = (int(port, "port").unwrap_or(0), text(port, "protocol"));
        match int(port, "nodePort").unwrap_or(0) {
            0 => format!("{number}/{protocol}"),
            node => format!("{number}:{node}/{protocol}"),
        }
    });
    cells::or_none(shown.collect::<Vec<_>>().join(","))
}
