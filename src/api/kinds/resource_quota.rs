//! ResourceQuota: how much a namespace may use in all.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use super::pod::resources;
use crate::kind::{Column, Kind, Subresource};
use crate::status::FieldError;
use crate::value::{Field, entries, get, list, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ResourceQuota",
    plural: "resourcequotas",
    singular: "resourcequota",
    returns_deleted: true,
    short_names: &["quota"],
    subresources: &[Subresource::status("ResourceQuota")],
    storage_version_hash: "8uhSgffRX6w=",
    prepare_create: |quota| crate::value::remove(quota, "status"),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        Field::at(new, "spec.scopes").immutable(old, &mut errors);
        errors
    },
    validate_status: |new, _| status(new),
    columns: &[
        Column::NAME,
        Column::text("Request"),
        Column::text("Limit"),
        Column::AGE,
    ],
    row,
    ..Kind::WITH_STATUS
};

fn validate(quota: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(quota, "spec");
    amounts(&spec, "hard", &mut errors);
    scopes(&spec, &mut errors);
    scope_selector(&spec, &mut errors);
    errors
}

fn status(quota: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(quota, "status");
    amounts(&status, "hard", &mut errors);
    amounts(&status, "used", &mut errors);
    errors
}

fn amounts(holder: &Field, key: &str, errors: &mut Vec<FieldError>) {
    for (name, amount) in holder.entries(key) {
        resources::resource_name(name, &amount, errors);
        if !name.contains('/') && !resources::is_quota_name(name) {
            let why = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&amount.path, name, why));
        }
        resources::amount(name, &amount, errors);
    }
}

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
const OPPOSITES: [[&str; 2]; 2] = [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]];

/// Whether an amount of that resource can be counted for some objects only.
fn counts(scope: &str, resource: &str) -> bool {
    let computed = resource
        .strip_prefix("requests.")
        .or(resource.strip_prefix("limits."))
        .unwrap_or(resource);
    match scope {
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => resource == "pods" || matches!(computed, "cpu" | "memory"),
    }
}

/// The resources of which a quota says how much, and that have a name of their own.
fn standard<'a>(spec: &Field<'a>) -> Vec<&'a str> {
    let names = spec.entries("hard").into_iter().map(|(name, _)| name);
    names.filter(|name| resources::is_quota_name(name)).collect()
}

fn scopes(spec: &Field, errors: &mut Vec<FieldError>) {
    let field = spec.get("scopes");
    let given: Vec<&str> = list(spec.value, "scopes")
        .iter()
        .filter_map(Value::as_str)
        .collect();
    for scope in &given {
        if !SCOPES.contains(scope) {
            errors.push(field.invalid("unsupported scope"));
        }
        let wrong = standard(spec).into_iter().filter(|name| !counts(scope, name));
        errors.extend(wrong.map(|_| field.invalid("unsupported scope applied to resource")));
    }
    contradictions(&given, &field, errors);
}

fn contradictions(given: &[&str], at: &Field, errors: &mut Vec<FieldError>) {
    let both = OPPOSITES
        .iter()
        .filter(|pair| pair.iter().all(|scope| given.contains(scope)));
    errors.extend(both.map(|_| at.invalid("conflicting scopes")));
}

fn scope_selector(spec: &Field, errors: &mut Vec<FieldError>) {
    const ONLY_THERE: &str = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
        ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or \
        ResourceQuotaScopeCrossNamespacePodAffinity";
    let chosen = spec.get("scopeSelector");
    // Kubernetes' paths have neither the number of the expression nor a name of their own for its list.
    let path = chosen.path_of("matchExpressions");
    let requirements = chosen.items("matchExpressions");
    for requirement in &requirements {
        let at = |key: &str| Field::new(get(requirement.value, key), format!("{path}.{key}"));
        let (scope, operator, values) = (at("scopeName"), at("operator"), at("values"));
        if !SCOPES.contains(&scope.text()) {
            errors.push(scope.invalid("unsupported scope"));
        }
        for _ in standard(spec)
            .into_iter()
            .filter(|name| !counts(scope.text(), name))
        {
            let why = "unsupported scope applied to resource";
            errors.push(FieldError::invalid(&path, chosen.value.clone(), why));
        }
        let valued = matches!(scope.text(), "PriorityClass" | "VolumeAttributesClass");
        if SCOPES.contains(&scope.text()) && !valued && operator.text() != "Exists" {
            errors.push(operator.invalid(ONLY_THERE));
        }
        match operator.text() {
            "In" | "NotIn" if values.is_blank() => errors.push(values.required(
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_blank() => {
                errors.push(values.invalid(
                    "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
                ))
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(operator.invalid("not a valid selector operator")),
        }
    }
    let given: Vec<&str> = requirements.iter().map(|r| text(r.value, "scopeName")).collect();
    contradictions(&given, &spec.get("scopes"), errors);
}

fn row(quota: &Value, now: Timestamp) -> Vec<Value> {
    let shown = |limits: bool| {
        let all = entries(quota, "status.hard").filter(|(name, _)| name.starts_with("limits.") == limits);
        let amount = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
        let zero = json!("0");
        all.map(|(name, hard)| {
            let used = get(quota, "status.used").get(name).unwrap_or(&zero);
            format!("{name}: {}/{}", amount(used), amount(hard))
        })
        .collect::<Vec<_>>()
        .join(", ")
    };
    vec![
        cells::name(quota),
        json!(shown(false)),
        json!(shown(true)),
        cells::age(quota, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_kubectl() {
        let quota = json!({"status": {"hard": {"pods": "5", "limits.cpu": "2"}, "used": {"pods": "1"}}});
        assert_eq!(
            row(&quota, Timestamp::UNIX_EPOCH)[1..3],
            ["pods: 1/5", "limits.cpu: 0/2"]
        );
    }
}
