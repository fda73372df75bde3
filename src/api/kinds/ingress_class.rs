//! IngressClass: who serves an Ingress.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata};
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, has, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    storage_version_hash: "l/iqIbDgFyQ=",
    prepare_create: |class| metadata::set_generation(class, 1),
    prepare_update: metadata::bump_generation_on_spec,
    validate,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        Field::at(new, "spec.controller").immutable(old, &mut errors);
        errors
    },
    columns: &[
        Column::NAME,
        Column::text("Controller"),
        Column::text("Parameters"),
        Column::AGE,
    ],
    row,
    ..Kind::CLUSTER
};

fn validate(class: &Value) -> Vec<FieldError> {
    let controller = Field::at(class, "spec.controller");
    let mut errors = Vec::new();
    match controller.text() {
        "" => errors.push(controller.required("")),
        name if name.contains('/') => errors.extend(controller.invalid_each(names::is_qualified_name(name))),
        _ => errors.push(controller.invalid("must be a domain-prefixed path (such as \"acme.io/foo\")")),
    }
    errors
}

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = if has(class, "spec.parameters") {
        let (group, kind) = (
            text(class, "spec.parameters.apiGroup"),
            text(class, "spec.parameters.kind"),
        );
        let kind = if group.is_empty() {
            kind.to_owned()
        } else {
            format!("{kind}.{group}")
        };
        format!("{kind}/{}", text(class, "spec.parameters.name"))
    } else {
        "<none>".to_owned()
    };
    vec![
        cells::name(class),
        json!(text(class, "spec.controller")),
        json!(parameters),
        cells::age(class, now),
    ]
}
