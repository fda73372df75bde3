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
        errors.extend(validate(new));
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
    let mut errors = Vec::new();
    let controller = Field::at(class, "spec.controller");
    if controller.needed(&mut errors) {
        if controller.text().len() > CONTROLLER_MAX {
            errors.push(FieldError::too_long(&controller.path, CONTROLLER_MAX));
        }
        errors.extend(prefixed_path(&controller));
    }
    parameters(&Field::at(class, "spec.parameters"), &mut errors);
    errors
}

/// Longest name of a controller, bytes.
const CONTROLLER_MAX: usize = 250;

/// What is wrong with a path below a domain, such as `acme.io/foo`.
pub fn prefixed_path(field: &Field) -> Vec<FieldError> {
    let (host, path) = match field.text().split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
        _ => {
            let why = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            return vec![field.invalid(why)];
        }
    };
    let at = |value: &str, why: String| FieldError::invalid(&field.path, value, why);
    let mut errors: Vec<FieldError> = names::is_dns_subdomain(host)
        .into_iter()
        .map(|why| at(host, why))
        .collect();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&b);
    if !path.bytes().all(allowed) {
        let why = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(at(path, why.to_owned()));
    }
    errors
}

/// Rules for a reference to an object of any kind.
pub fn reference(at: &Field, errors: &mut Vec<FieldError>) {
    let group = at.get("apiGroup");
    if group.is_set() {
        errors.extend(group.invalid_each(names::is_dns_subdomain(group.text())));
    }
    for key in ["kind", "name"] {
        let field = at.get(key);
        if field.needed(errors) {
            errors.extend(field.invalid_each(names::path_segment(field.text(), false)));
        }
    }
}

fn parameters(at: &Field, errors: &mut Vec<FieldError>) {
    if !at.is_set() {
        return;
    }
    reference(at, errors);
    let (scope, namespace) = (at.get("scope"), at.get("namespace"));
    match scope.text() {
        "" if !scope.is_set() => errors.push(scope.required("")),
        "Namespace" if !namespace.is_set() => {
            errors.push(namespace.required("`parameters.scope` is set to 'Namespace'"));
        }
        "Namespace" => errors.extend(namespace.invalid_each(names::is_dns_label(namespace.text()))),
        "Cluster" if namespace.is_set() => {
            errors.push(namespace.forbidden("`parameters.scope` is set to 'Cluster'"));
        }
        "Cluster" => {}
        _ => errors.push(scope.not_supported(&["Cluster", "Namespace"])),
    }
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
