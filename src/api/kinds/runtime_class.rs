//! RuntimeClass: a way of running containers.

use serde_json::{Value, json};

use super::{cells, metadata, pod, warnings};
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, entries, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    create_on_update: true,
    unconditional_update: false,
    storage_version_hash: "WQTu1GL3T2Q=",
    validate,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        Field::at(new, "handler").immutable(old, &mut errors);
        errors
    },
    warnings: |new, _| {
        let scheduling = Field::at(new, "scheduling.nodeSelector");
        let labels = entries(new, "scheduling.nodeSelector").filter_map(|(key, _)| warnings::node_label(key));
        labels
            .map(|instead| format!("{}: {instead}", scheduling.path))
            .collect()
    },
    columns: &[Column::NAME, Column::text("Handler"), Column::AGE],
    row: |class, now| {
        vec![
            cells::name(class),
            json!(text(class, "handler")),
            cells::age(class, now),
        ]
    },
    ..Kind::CLUSTER
};

fn validate(class: &Value) -> Vec<FieldError> {
    let handler = Field::at(class, "handler");
    let mut errors: Vec<FieldError> = handler
        .invalid_each(names::is_dns_label(handler.text()))
        .collect();
    let overhead = Field::at(class, "overhead");
    if overhead.is_set() {
        let limits = json!({"limits": overhead.get("podFixed").value});
        let limits = Field::new(&limits, &overhead.path);
        pod::resources::of_container(&limits, &Field::new(&Value::Null, ""), &mut errors);
    }
    let scheduling = Field::at(class, "scheduling");
    metadata::labels(&scheduling.get("nodeSelector"), &mut errors);
    pod::tolerations(&scheduling, &mut errors);
    errors
}
