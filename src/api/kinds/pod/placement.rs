//! Rules for what decides where a pod runs: selector, affinity, tolerations, spreading.

use std::collections::BTreeSet;

use crate::kinds::metadata;
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, get};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Rules for everything that decides where a pod runs.
pub fn check(spec: &Field, errors: &mut Vec<FieldError>) {
    metadata::labels(&spec.get("nodeSelector"), errors);
    affinity(&spec.get("affinity"), errors);
    tolerations(spec, errors);
    spreading(spec, errors);
}

fn affinity(affinity: &Field, errors: &mut Vec<FieldError>) {
    let node = affinity.get("nodeAffinity");
    let required = node.get(REQUIRED);
    if required.is_set() {
        node_selector(&required, errors);
    }
    for preferred in node.items(PREFERRED) {
        weight(&preferred, errors);
        node_term(&preferred.get("preference"), errors);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = affinity.get(kind);
        for term in pods.items(REQUIRED) {
            pod_term(&term, errors);
        }
        for preferred in pods.items(PREFERRED) {
            weight(&preferred, errors);
            pod_term(&preferred.get("podAffinityTerm"), errors);
        }
    }
}

fn weight(preferred: &Field, errors: &mut Vec<FieldError>) {
    let weight = preferred.get("weight");
    if !(1..=100).contains(&weight.int().unwrap_or(0)) {
        errors.push(FieldError::invalid(
            &weight.path,
            weight.int().unwrap_or(0),
            "must be in the range 1-100",
        ));
    }
}

/// Rules for a `NodeSelector`.
pub fn node_selector(selector: &Field, errors: &mut Vec<FieldError>) {
    let terms = selector.items("nodeSelectorTerms");
    if terms.is_empty() {
        errors.push(
            selector
                .get("nodeSelectorTerms")
                .required("must have at least one node selector term"),
        );
    }
    for term in terms {
        node_term(&term, errors);
    }
}

fn node_term(term: &Field, errors: &mut Vec<FieldError>) {
    for requirement in term.items("matchExpressions") {
        node_requirement(&requirement, errors);
        let key = requirement.get("key");
        errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
    }
    for requirement in term.items("matchFields") {
        let (key, operator, values) = (
            requirement.get("key"),
            requirement.get("operator"),
            requirement.get("values"),
        );
        if !matches!(operator.text(), "In" | "NotIn") {
            errors.push(operator.invalid("not a valid selector operator"));
        } else if values.value.as_array().map_or(0, Vec::len) != 1 {
            errors.push(values.required(
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            ));
        }
        if key.text() != "metadata.name" {
            errors.push(key.invalid("not a valid field selector key"));
        }
    }
}

fn node_requirement(requirement: &Field, errors: &mut Vec<FieldError>) {
    let (operator, values) = (requirement.get("operator"), requirement.get("values"));
    let count = values.value.as_array().map_or(0, Vec::len);
    match operator.text() {
        "In" | "NotIn" if count == 0 => {
            errors.push(values.required("must be specified when `operator` is 'In' or 'NotIn'"));
        }
        "Exists" | "DoesNotExist" if count > 0 => {
            errors
                .push(values.forbidden("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
        }
        "Gt" | "Lt" if count != 1 => {
            errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        _ => errors.push(operator.invalid("not a valid selector operator")),
    }
}

fn pod_term(term: &Field, errors: &mut Vec<FieldError>) {
    selector::validate(&term.get("labelSelector"), errors);
    selector::validate(&term.get("namespaceSelector"), errors);
    for namespace in term.items("namespaces") {
        let at = Field::new(namespace.value, term.path_of("namespace"));
        errors.extend(at.invalid_each(names::is_dns_label(namespace.text())));
    }
    match_keys(term, errors);
    let key = term.get("topologyKey");
    if key.is_blank() {
        errors.push(key.required("can not be empty"));
    }
    errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
}

fn match_keys(term: &Field, errors: &mut Vec<FieldError>) {
    for list in ["matchLabelKeys", "mismatchLabelKeys"] {
        for key in term.items(list) {
            errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
            if !get(term.value, "labelSelector").is_object() {
                errors.push(
                    term.get(list)
                        .forbidden("must not be specified when labelSelector is not set"),
                );
            }
        }
    }
}

fn tolerations(spec: &Field, errors: &mut Vec<FieldError>) {
    for toleration in spec.items("tolerations") {
        let (key, operator, value, effect) = (
            toleration.get("key"),
            toleration.get("operator"),
            toleration.get("value"),
            toleration.get("effect"),
        );
        if !key.is_blank() {
            errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        }
        if key.is_blank() && operator.text() != "Exists" {
            errors.push(operator.invalid(
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            ));
        }
        if toleration.get("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            errors.push(effect.invalid("effect must be 'NoExecute' when `tolerationSeconds` is set"));
        }
        let at = Field::new(value.value, operator.path.clone());
        match operator.text() {
            "" | "Equal" => errors.extend(at.invalid_each(names::is_label_value(value.text()))),
            "Exists" if !value.is_blank() => errors.push(FieldError::invalid(
                &toleration.path,
                toleration.value.clone(),
                "value must be empty when `operator` is 'Exists'",
            )),
            "Exists" => {}
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        effect.one_of_if_set(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
    }
}

fn spreading(spec: &Field, errors: &mut Vec<FieldError>) {
    let mut seen = BTreeSet::new();
    for constraint in spec.items("topologySpreadConstraints") {
        let skew = constraint.get("maxSkew");
        if skew.int().unwrap_or(0) <= 0 {
            errors.push(FieldError::invalid(
                &skew.path,
                skew.int().unwrap_or(0),
                "must be greater than zero",
            ));
        }
        let key = constraint.get("topologyKey");
        if key.is_blank() {
            errors.push(key.required("can not be empty"));
        } else {
            errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        }
        let action = constraint.get("whenUnsatisfiable");
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(FieldError::not_supported(
                &action.path,
                action.text(),
                &["DoNotSchedule", "ScheduleAnyway"],
            ));
        }
        if !seen.insert((key.text(), action.text())) {
            let pair = format!("{{{}, {}}}", key.text(), action.text());
            errors.push(FieldError::duplicate(
                constraint.path_of("{topologyKey, whenUnsatisfiable}"),
                pair,
            ));
        }
        let domains = constraint.get("minDomains");
        if domains.int().is_some_and(|n| n <= 0) {
            errors.push(domains.invalid("must be greater than zero"));
        }
        if domains.is_set() && action.text() != "DoNotSchedule" {
            errors.push(
                domains.invalid(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway",
                ),
            );
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(policy).one_of_if_set(&["Honor", "Ignore"], errors);
        }
        match_keys(&constraint, errors);
        selector::validate(&constraint.get("labelSelector"), errors);
    }
}
