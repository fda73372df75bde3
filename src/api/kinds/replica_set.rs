//! ReplicaSet: keeps a number of like pods.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata, workload};
use crate::kind::{Column, Kind, Subresource};
use crate::status::FieldError;
use crate::value::{Field, fill, get_mut, int};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("ReplicaSet")],
    storage_version_hash: "P1RzHs8/mWQ=",
    default: |set| {
        workload::default_template(set);
        if let Some(spec) = get_mut(set, "spec") {
            fill(spec, "replicas", 1);
        }
    },
    prepare_create: metadata::create_without_status,
    prepare_update: metadata::update_spec,
    prepare_status: metadata::update_status,
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        Field::at(new, "spec.selector").immutable(old, &mut errors);
        errors
    },
    validate_status,
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    columns: &[
        Column::NAME,
        Column::integer("Desired"),
        Column::integer("Current"),
        Column::integer("Ready"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    row,
    ..Kind::NAMESPACED
};

fn validate(set: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(set, "spec");
    spec.get("replicas").non_negative(&mut errors);
    spec.get("minReadySeconds").non_negative(&mut errors);
    workload::selector_and_template(&spec, &mut errors);
    workload::always_running(&spec, &mut errors);
    errors
}

fn validate_status(new: &Value, _old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    workload::status_counts(new, &parts, &mut errors);
    errors
}

fn row(set: &Value, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| json!(int(set, path).unwrap_or(0));
    let [containers, images, selector] = workload::wide_cells(set);
    vec![
        cells::name(set),
        count("spec.replicas"),
        count("status.replicas"),
        count("status.readyReplicas"),
        cells::age(set, now),
        containers,
        images,
        selector,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_agree() {
        let set = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}});
        let texts: Vec<String> = validate_status(&set, &set)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
            ]
        );
    }

    #[test]
    fn one_pod_unless_said_otherwise() {
        let mut set = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}}}});
        (KIND.default)(&mut set);
        assert_eq!(set["spec"]["replicas"], 1);
        assert!(KIND.check_create(&set).is_empty());
    }
}
