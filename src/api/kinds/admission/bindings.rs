//! ValidatingAdmissionPolicyBinding and MutatingAdmissionPolicyBinding: where a policy holds, and with which
//! parameters.

use serde_json::{Value, json};

use super::rules;
use crate::kind::{Column, Kind};
use crate::kinds::{cells, metadata};
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, has, list, text};

/// `ValidatingAdmissionPolicyBinding`.
pub static VALIDATING: Kind = Kind {
    kind: "ValidatingAdmissionPolicyBinding",
    plural: "validatingadmissionpolicybindings",
    singular: "validatingadmissionpolicybinding",
    storage_version_hash: "v9715VZqakg=",
    validate: validating,
    validate_update: |new, _| validating(new),
    ..BASE
};

/// `MutatingAdmissionPolicyBinding`.
pub static MUTATING: Kind = Kind {
    kind: "MutatingAdmissionPolicyBinding",
    plural: "mutatingadmissionpolicybindings",
    singular: "mutatingadmissionpolicybinding",
    storage_version_hash: "90V5FRZZ3Zg=",
    validate: common,
    validate_update: |new, _| common(new),
    ..BASE
};

const BASE: Kind = Kind {
    group: "admissionregistration.k8s.io",
    categories: &["api-extensions"],
    unconditional_update: false,
    default: |binding| {
        rules::default_resources(binding, "spec.matchResources");
        rules::default_parameters(binding, "spec.paramRef");
    },
    prepare_create: |binding| metadata::set_generation(binding, 1),
    prepare_update: metadata::bump_generation_on_spec,
    columns: &[
        Column::NAME,
        Column::text("PolicyName"),
        Column::text("ParamRef"),
        Column::AGE,
    ],
    row: |binding, now| {
        vec![
            cells::name(binding),
            json!(text(binding, "spec.policyName")),
            json!(parameters(binding)),
            cells::age(binding, now),
        ]
    },
    ..Kind::CLUSTER
};

fn parameters(binding: &Value) -> String {
    if !has(binding, "spec.paramRef") {
        return "<unset>".to_owned();
    }
    let (namespace, name) = (
        text(binding, "spec.paramRef.namespace"),
        text(binding, "spec.paramRef.name"),
    );
    match (namespace, name) {
        (_, "") => "*".to_owned(),
        ("", name) => name.to_owned(),
        (namespace, name) => format!("{namespace}/{name}"),
    }
}

fn common(binding: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(binding, "spec");
    let policy = spec.get("policyName");
    if policy.needed(&mut errors) {
        errors.extend(policy.invalid_each(names::is_dns_subdomain(policy.text())));
    }
    reference(&spec.get("paramRef"), &mut errors);
    rules::resources(&spec.get("matchResources"), &mut errors);
    errors
}

fn reference(reference: &Field, errors: &mut Vec<FieldError>) {
    if !reference.is_set() {
        return;
    }
    let (name, chosen) = (reference.get("name"), reference.get("selector"));
    if !name.is_blank() {
        errors.extend(name.invalid_each(names::path_segment(name.text(), false)));
        if chosen.is_set() {
            errors.push(name.forbidden("name and selector are mutually exclusive"));
        }
    } else if chosen.is_set() {
        selector::validate(&chosen, errors);
    } else {
        errors.push(reference.required("one of name or selector must be specified"));
    }
    reference
        .get("parameterNotFoundAction")
        .one_of(&["Allow", "Deny"], errors);
}

fn validating(binding: &Value) -> Vec<FieldError> {
    let mut errors = common(binding);
    let spec = Field::at(binding, "spec");
    let actions = spec.get("validationActions");
    for action in spec.items("validationActions") {
        action.one_of(&["Audit", "Deny", "Warn"], &mut errors);
    }
    spec.unique("validationActions", "", &mut errors);
    let given = list(spec.value, "validationActions");
    if given.contains(&json!("Deny")) && given.contains(&json!("Warn")) {
        errors.push(actions.invalid(
            "must not contain both Deny and Warn (repeating the same validation failure information in the API \
             response and headers serves no purpose)",
        ));
    }
    if given.is_empty() {
        errors.push(actions.required("at least one validation action is required"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denying_and_warning_at_once_makes_no_sense() {
        let binding = json!({"spec": {"policyName": "p", "paramRef": {"parameterNotFoundAction": "Deny"},
            "validationActions": ["Deny", "Warn"]}});
        let said: Vec<String> = validating(&binding).iter().map(ToString::to_string).collect();
        assert_eq!(
            said[0],
            "spec.paramRef: Required value: one of name or selector must be specified"
        );
        assert!(said[1].contains("must not contain both Deny and Warn"));
    }
}
