//! Node: a machine that runs pods.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::pod::resources;
use super::{cells, warnings};
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill, flag, get, get_mut, has, keep, list, same, set, text};

/// Labels with this prefix name a node's roles.
const ROLE_PREFIX: &str = "node-role.kubernetes.io/";

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    subresources: &[
        Subresource::new(
            "proxy",
            "NodeProxyOptions",
            &["create", "delete", "get", "patch", "update"],
        ),
        Subresource::status("Node"),
    ],
    storage_version_hash: "XwShjMxG9Fs=",
    default,
    // A node registers itself with its status, so creating keeps it.
    prepare_update: |new, old| keep(new, old, "status"),
    prepare_status: |new, old| keep(new, old, "spec"),
    validate,
    validate_update,
    validate_status: |new, _| status(new),
    warnings: |new, _| {
        let mut said = Vec::new();
        if has(new, "spec.configSource") {
            said.push("spec.configSource: the feature is removed".to_owned());
        }
        if !text(new, "spec.externalID").is_empty() {
            said.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".to_owned());
        }
        for range in Field::at(new, "spec").items("podCIDRs") {
            warnings::cidr(&range, &mut said);
        }
        said
    },
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    field_names: &["spec.unschedulable"],
    fields: |node| vec![("spec.unschedulable", flag(node, "spec.unschedulable").to_string())],
    columns: &[
        Column::NAME,
        Column::text("Status"),
        Column::text("Roles"),
        Column::AGE,
        Column::text("Version"),
        Column::text("Internal-IP").wide(),
        Column::text("External-IP").wide(),
        Column::text("OS-Image").wide(),
        Column::text("Kernel-Version").wide(),
        Column::text("Container-Runtime").wide(),
    ],
    row,
    ..Kind::CLUSTER
};

fn default(node: &mut Value) {
    if let Some(spec) = get_mut(node, "spec") {
        // One range in the older form is the first in the newer, and the other way round.
        let older = text(spec, "podCIDR").to_owned();
        if !older.is_empty() && list(spec, "podCIDRs").is_empty() {
            set(spec, "podCIDRs", json!([older]));
        }
        if let Some(first) = list(spec, "podCIDRs").first().cloned() {
            set(spec, "podCIDR", first);
        }
    }
    let capacity = get(node, "status.capacity").clone();
    if let Some(status) = get_mut(node, "status")
        && !capacity.is_null()
    {
        fill(status, "allocatable", capacity);
    }
}

fn validate(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(node, "spec");
    taints(&spec, &mut errors);
    errors.extend(status(node));
    let ranges = spec.items("podCIDRs");
    for cidr in &ranges {
        errors.extend(cidr.invalid_each(names::is_cidr(cidr.text())));
    }
    let one_each = |a: &Field, b: &Field| a.text().contains(':') != b.text().contains(':');
    match ranges.as_slice() {
        [] | [_] => {}
        [a, b] if one_each(a, b) => {}
        _ => errors.push(
            spec.get("podCIDRs")
                .invalid("may specify no more than one CIDR for each IP family"),
        ),
    }
    spec.unique("podCIDRs", "", &mut errors);
    errors
}

fn taints(spec: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    // Kubernetes' errors look for them in the metadata.
    for taint in Field::new(spec.value, "metadata").items("taints") {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        let wrong = names::is_label_value(value.text());
        if !wrong.is_empty() {
            errors.push(value.invalid(wrong.join(";")));
        }
        effect.one_of(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
        if !seen.insert((key.text(), effect.text())) {
            let mut error = taint.duplicate();
            error.detail = "taints must be unique by key and effect pair".to_owned();
            errors.push(error);
        }
    }
}

fn status(node: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(node, "status");
    let mut seen = Vec::new();
    for address in status.items("addresses") {
        if seen.contains(&address.value) {
            errors.push(address.duplicate());
        }
        seen.push(address.value);
    }
    for key in ["capacity", "allocatable"] {
        for (name, amount) in status.entries(key) {
            let at = Field::new(amount.value, status.path_of(&format!("{key}.{name}")));
            resources::amount(name, &at, &mut errors);
        }
    }
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(new, "spec");
    taints(&spec, &mut errors);
    let before = get(old, "spec");
    if !list(before, "podCIDRs").is_empty() && !same(get(spec.value, "podCIDRs"), get(before, "podCIDRs")) {
        errors.push(
            spec.get("podCIDRs")
                .forbidden("node updates may not change podCIDR except from \"\" to valid"),
        );
    }
    if !text(before, "providerID").is_empty() && text(before, "providerID") != spec.get("providerID").text() {
        errors.push(
            spec.get("providerID")
                .forbidden("node updates may not change providerID except from \"\" to valid"),
        );
    }
    errors
}

fn row(node: &Value, now: Timestamp) -> Vec<Value> {
    let info = |key: &str| match text(node, &format!("status.nodeInfo.{key}")) {
        "" => "<unknown>".to_owned(),
        value => value.to_owned(),
    };
    vec![
        cells::name(node),
        json!(conditions(node)),
        json!(cells::or_none(roles(node).join(","))),
        cells::age(node, now),
        json!(text(node, "status.nodeInfo.kubeletVersion")),
        json!(address(node, "InternalIP")),
        json!(address(node, "ExternalIP")),
        json!(info("osImage")),
        json!(info("kernelVersion")),
        json!(info("containerRuntimeVersion")),
    ]
}

fn conditions(node: &Value) -> String {
    let ready = list(node, "status.conditions")
        .iter()
        .find(|c| text(c, "type") == "Ready");
    let mut shown = match ready.map(|c| text(c, "status")) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    if flag(node, "spec.unschedulable") {
        shown.push_str(",SchedulingDisabled");
    }
    shown
}

fn roles(node: &Value) -> Vec<String> {
    let mut all = BTreeSet::new();
    for (key, value) in get(node, "metadata.labels").as_object().into_iter().flatten() {
        if let Some(role) = key.strip_prefix(ROLE_PREFIX) {
            all.insert(role.to_owned());
        } else if key == "kubernetes.io/role" {
            all.insert(value.as_str().unwrap_or("").to_owned());
        }
    }
    all.remove("");
    all.into_iter().collect()
}

fn address(node: &Value, kind: &str) -> String {
    let found = list(node, "status.addresses")
        .iter()
        .find(|a| text(a, "type") == kind);
    cells::or_none(found.map_or("", |a| text(a, "address")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_kubectl() {
        let node = json!({
            "metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.36.0"},
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        });
        let cells = row(&node, Timestamp::UNIX_EPOCH);
        assert_eq!(
            cells,
            [
                "n",
                "Ready,SchedulingDisabled",
                "control-plane,worker",
                "<unknown>",
                "v1.36.0",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]
        );
        assert_eq!(
            row(&json!({}), Timestamp::UNIX_EPOCH)[1..3],
            ["Unknown", "<none>"]
        );
    }

    #[test]
    fn taints_and_addresses_are_checked() {
        let bad = json!({"spec": {"taints": [{"key": "a", "effect": "Never"}, {"key": "a", "effect": "Never"}]},
            "status": {"capacity": {"cpu": "-1"}}});
        let texts: Vec<String> = validate(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts[0],
            "metadata.taints[0].effect: Unsupported value: \"Never\": supported values: \"NoSchedule\", \"PreferNoSchedule\", \"NoExecute\""
        );
        assert!(texts[2].contains("taints must be unique by key and effect pair"));
        assert!(texts[3].starts_with("status.capacity.cpu"));
        let (old, new) = (
            json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}}),
            json!({"spec": {}}),
        );
        assert_eq!(validate_update(&new, &old).len(), 1);
        assert!(validate_update(&old, &new).is_empty());
    }
}
