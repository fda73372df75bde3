//! Rules for what decides where a pod runs: selector, affinity, tolerations, spreading.

use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, get, text};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Rules for affinity to nodes and to other pods.
pub fn affinity(affinity: &Field, errors: &mut Vec<FieldError>) {
    let node = affinity.get("nodeAffinity");
    let required = node.get(REQUIRED);
    if required.is_set() {
        node_selector(&required, errors);
    }
    for preferred in node.items(PREFERRED) {
        weight(&preferred, errors);
        node_term(&preferred.get("preference"), false, errors);
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
        node_term(&term, true, errors);
    }
}

/// What is only preferred may ask for values that no label can have.
fn node_term(term: &Field, required: bool, errors: &mut Vec<FieldError>) {
    for requirement in term.items("matchExpressions") {
        node_requirement(&requirement, errors);
        let key = requirement.get("key");
        errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        for value in requirement.items("values").iter().filter(|_| required) {
            errors.extend(value.invalid_each(names::is_label_value(value.text())));
        }
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
            continue;
        }
        for value in requirement.items("values") {
            errors.extend(value.invalid_each(names::is_dns_subdomain(value.text())));
        }
    }
}

fn node_requirement(requirement: &Field, errors: &mut Vec<FieldError>) {
    if selector::has_its_values(requirement, errors) {
        return;
    }
    let (operator, values) = (requirement.get("operator"), requirement.get("values"));
    match (operator.text(), values.value.as_array().map_or(0, Vec::len)) {
        ("Gt" | "Lt", 1) => {}
        ("Gt" | "Lt", _) => {
            errors.push(values.required("must be specified single value when `operator` is 'Lt' or 'Gt'"));
        }
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
        if term.get(list).is_blank() {
            continue;
        }
        if !get(term.value, "labelSelector").is_object() {
            let why = "must not be specified when labelSelector is not set";
            errors.push(term.get(list).forbidden(why));
            continue;
        }
        for key in term.items(list) {
            errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        }
    }
    let not = term.items("mismatchLabelKeys");
    for key in term.items("matchLabelKeys") {
        if not.iter().any(|other| other.text() == key.text()) {
            errors.push(key.invalid("exists in both matchLabelKeys and mismatchLabelKeys"));
        }
    }
}

/// Rules for tolerations.
pub fn tolerations(spec: &Field, errors: &mut Vec<FieldError>) {
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
            "" | "Equal" => {
                let wrong = names::is_label_value(value.text());
                if !wrong.is_empty() {
                    errors.push(at.invalid(wrong.join(";")));
                }
            }
            "Exists" if !value.is_blank() => {
                errors.push(at.invalid("value must be empty when `operator` is 'Exists'"));
            }
            "Exists" => {}
            _ => errors.push(operator.not_supported(&["Equal", "Exists"])),
        }
        effect.one_of_if_set(&["NoSchedule", "PreferNoSchedule", "NoExecute"], errors);
    }
}

/// Rules for spreading over zones, nodes and the like.
pub fn spreading(spec: &Field, errors: &mut Vec<FieldError>) {
    let all = spec.items("topologySpreadConstraints");
    for (i, constraint) in all.iter().enumerate() {
        let (key, action) = (constraint.get("topologyKey"), constraint.get("whenUnsatisfiable"));
        let skew = constraint.get("maxSkew");
        let number = skew.int().unwrap_or(0);
        if number <= 0 {
            errors.push(FieldError::invalid(
                &skew.path,
                number,
                "must be greater than zero",
            ));
        }
        if key.is_blank() {
            errors.push(key.required("can not be empty"));
        }
        if !matches!(action.text(), "DoNotSchedule" | "ScheduleAnyway") {
            errors.push(action.not_supported(&["DoNotSchedule", "ScheduleAnyway"]));
        }
        let same = |other: &Field| {
            text(other.value, "topologyKey") == key.text()
                && text(other.value, "whenUnsatisfiable") == action.text()
        };
        if all.iter().skip(i + 1).any(same) {
            let path = constraint.path_of("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(
                path,
                format!("{{{}, {}}}", key.text(), action.text()),
            ));
        }
        domains(constraint, action.text(), errors);
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            constraint.get(policy).one_of_if_set(&["Honor", "Ignore"], errors);
        }
        spread_keys(constraint, errors);
        selector::validate(&constraint.get("labelSelector"), errors);
    }
}

fn domains(constraint: &Field, action: &str, errors: &mut Vec<FieldError>) {
    let domains = constraint.get("minDomains");
    if domains.int().is_some_and(|n| n <= 0) {
        errors.push(domains.invalid("must be greater than zero"));
    }
    if domains.is_set() && action != "DoNotSchedule" {
        errors.push(domains.invalid(format!(
            "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        )));
    }
}

fn spread_keys(constraint: &Field, errors: &mut Vec<FieldError>) {
    let keys = constraint.get("matchLabelKeys");
    let chosen = constraint.get("labelSelector");
    if !keys.is_blank() && !chosen.is_set() {
        errors.push(keys.forbidden("must not be specified when labelSelector is not set"));
    }
    for key in constraint.items("matchLabelKeys") {
        errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        let listed = chosen.items("matchExpressions");
        if get(chosen.value, "matchLabels").get(key.text()).is_some()
            || listed.iter().any(|e| e.get("key").text() == key.text())
        {
            errors.push(key.invalid("exists in both matchLabelKeys and labelSelector"));
        }
    }
}
