//! What clients are told about Services that are in order, but say what has no effect or goes out of use
//! (k/k `pkg/api/service`).

use serde_json::Value;

use crate::kinds::warnings;
use crate::object;
use crate::value::{Field, list, text};

const HINTS: &str = "service.kubernetes.io/topology-aware-hints";

/// Warnings about a Service.
pub fn service(new: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut said = Vec::new();
    let spec = Field::at(new, "spec");
    let headless = text(new, "spec.type") == "ClusterIP" && text(new, "spec.clusterIP") == "None";
    if object::annotation(new, HINTS).is_some() {
        said.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    if !["", "None"].contains(&text(new, "spec.clusterIP")) {
        addresses(&spec, "clusterIPs", &mut said);
    }
    if headless {
        without_address(new, &mut said);
    }
    addresses(&spec, "externalIPs", &mut said);
    let external = !list(new, "spec.externalIPs").is_empty();
    let alias = text(new, "spec.type") == "ExternalName";
    if external && !headless && !alias {
        said.push(
            "spec.externalIPs is deprecated and may no longer be implemented in some clusters".to_owned(),
        );
    }
    warnings::ip(&spec.get("loadBalancerIP"), &mut said);
    for range in spec.items("loadBalancerSourceRanges") {
        warnings::cidr(&range, &mut said);
    }
    if external && alias {
        said.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".to_owned());
    }
    if !alias && !text(new, "spec.externalName").is_empty() {
        said.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".to_owned());
    }
    if text(new, "spec.trafficDistribution") == "PreferClose" {
        said.push(
            "spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".to_owned(),
        );
    }
    said
}

fn addresses(spec: &Field, key: &str, said: &mut Vec<String>) {
    for address in spec.items(key) {
        warnings::ip(&address, said);
    }
}

/// What means nothing for a Service without an address of its own.
fn without_address(service: &Value, said: &mut Vec<String>) {
    let ignored = [
        ("loadBalancerIP", !text(service, "spec.loadBalancerIP").is_empty()),
        ("externalIPs", !list(service, "spec.externalIPs").is_empty()),
        ("SessionAffinity", text(service, "spec.sessionAffinity") != "None"),
    ];
    for (field, _) in ignored.iter().filter(|(_, set)| *set) {
        said.push(format!("spec.{field} is ignored for headless services"));
    }
}
