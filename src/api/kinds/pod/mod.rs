//! Pod: containers that share an address.

mod annotations;
mod claims;
mod containers;
mod defaults;
mod env_files;
mod environment;
mod mounts;
mod paths;
mod placement;
mod platform;
mod probes;
pub mod resources;
mod restarts;
mod row;
mod rules;
mod security;
pub mod sources;
mod spec;
mod status;
mod update;
mod volumes;
mod warnings;

pub use defaults::template as default_template;
pub use placement::{node_selector, tolerations};
pub use spec::template as validate_template;
pub use warnings::template as template_warnings;

use serde_json::{Value, json};

use super::metadata;
use crate::kind::{Column, Kind, PART_VERBS, Part, Subresource};
use crate::status::FieldError;
use crate::value::{Field, int, keep, list, set, text};
use rules::{pod_rules, qos_class};

const PROXY_VERBS: &[&str] = &["create", "delete", "get", "patch", "update"];

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    returns_deleted: true,
    short_names: &["po"],
    categories: &["all"],
    subresources: &[
        Subresource::new("attach", "PodAttachOptions", &["create", "get"]),
        Subresource::new("binding", "Binding", &["create"]),
        Subresource::new("ephemeralcontainers", "Pod", PART_VERBS).view(Part {
            prepare: update::prepare_ephemeral,
            validate: update::validate_ephemeral,
            reset_fields: &["metadata", "status"],
        }),
        Subresource::foreign("eviction", "Eviction", "policy", "v1", &["create"]),
        Subresource::new("exec", "PodExecOptions", &["create", "get"]),
        Subresource::new("log", "Pod", &["get"]),
        Subresource::new("portforward", "PodPortForwardOptions", &["create", "get"]),
        Subresource::new("proxy", "PodProxyOptions", PROXY_VERBS),
        Subresource::new("resize", "Pod", PART_VERBS).view(Part {
            prepare: update::prepare_resize,
            validate: update::validate_resize,
            reset_fields: &["metadata", "status"],
        }),
        Subresource::status("Pod"),
    ],
    storage_version_hash: "xPOwRZ+Yhw8=",
    default: defaults::pod,
    prepare_create,
    prepare_update,
    prepare_status,
    validate,
    validate_update: update::validate,
    validate_status: status::validate,
    warnings: warnings::pod,
    reset_fields: &["status"],
    reset_fields_status: &["metadata.deletionTimestamp", "metadata.ownerReferences", "spec"],
    field_names: &[
        "spec.hostNetwork",
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.nominatedNodeName",
        "status.phase",
        "status.podIP",
        "status.podIPs",
    ],
    field_aliases: &[("spec.host", "spec.nodeName")],
    fields,
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Status"),
        Column::text("Restarts"),
        Column::AGE,
        Column::text("IP").wide(),
        Column::text("Node").wide(),
        Column::text("Nominated Node").wide(),
        Column::text("Readiness Gates").wide(),
    ],
    row: row::row,
    graceful_delete,
    ..Kind::NAMESPACED
};

fn prepare_create(pod: &mut Value) {
    copy_service_account(pod);
    let class = qos_class(pod);
    set(pod, "status", json!({"phase": "Pending", "qosClass": class}));
    metadata::set_generation(pod, 1);
    let gated = !list(pod, "spec.schedulingGates").is_empty();
    if gated && let Some(status) = pod.get_mut("status") {
        set(
            status,
            "conditions",
            json!([{
                "type": "PodScheduled",
                "status": "False",
                "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
            }]),
        );
    }
}

fn prepare_update(new: &mut Value, old: &Value) {
    copy_service_account(new);
    metadata::update_spec(new, old);
}

/// A status write can neither delete a pod nor change who owns it.
fn prepare_status(new: &mut Value, old: &Value) {
    metadata::update_status(new, old);
    keep(new, old, "metadata.deletionTimestamp");
    keep(new, old, "metadata.deletionGracePeriodSeconds");
    keep(new, old, "metadata.ownerReferences");
    if text(new, "status.qosClass").is_empty() {
        keep(new, old, "status.qosClass");
    }
    status::align_pod_ips(new, old);
}

/// `serviceAccount` is the old name of `serviceAccountName`; both are shown.
fn copy_service_account(pod: &mut Value) {
    if let Some(spec) = pod.get_mut("spec") {
        defaults::service_account(spec);
    }
}

fn validate(pod: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(pod, "spec");
    pod_rules(pod, &mut errors);
    let ephemeral = spec.get("ephemeralContainers");
    if !ephemeral.is_blank() {
        errors.push(ephemeral.forbidden("cannot be set on create"));
    }
    let node = spec.get("nodeName");
    if !node.is_blank() && !spec.get("schedulingGates").is_blank() {
        errors.push(node.forbidden("cannot be set until all schedulingGates have been cleared"));
    }
    errors
}

fn fields(pod: &Value) -> Vec<(&'static str, String)> {
    let value = |path: &str| text(pod, path).to_owned();
    let ips: Vec<&str> = list(pod, "status.podIPs")
        .iter()
        .map(|ip| text(ip, "ip"))
        .collect();
    vec![
        (
            "spec.hostNetwork",
            crate::value::flag(pod, "spec.hostNetwork").to_string(),
        ),
        ("spec.nodeName", value("spec.nodeName")),
        ("spec.restartPolicy", value("spec.restartPolicy")),
        ("spec.schedulerName", value("spec.schedulerName")),
        ("spec.serviceAccountName", value("spec.serviceAccountName")),
        ("status.nominatedNodeName", value("status.nominatedNodeName")),
        ("status.phase", value("status.phase")),
        ("status.podIP", ips.first().copied().unwrap_or("").to_owned()),
        ("status.podIPs", ips.first().copied().unwrap_or("").to_owned()),
    ]
}

/// A pod that no node has, or that has ended, goes at once; else its node gets time to stop it.
fn graceful_delete(pod: &Value, asked: Option<i64>) -> Option<i64> {
    let unplaced = text(pod, "spec.nodeName").is_empty();
    if unplaced || matches!(text(pod, "status.phase"), "Failed" | "Succeeded") {
        return None;
    }
    let seconds = asked
        .or_else(|| int(pod, "spec.terminationGracePeriodSeconds"))
        .unwrap_or(30);
    match seconds {
        0 => None,
        negative if negative < 0 => Some(1),
        seconds => Some(seconds),
    }
}

#[cfg(test)]
mod tests;
