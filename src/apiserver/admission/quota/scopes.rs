//! Which objects a quota with scopes counts. Pure.

use api::value;
use serde_json::{Value, json};

use super::usage::Counted;

/// Whether all scopes of a quota hold for an object.
pub fn hold(quota: &Value, counted: &Counted<'_>, object: &Value) -> bool {
    let plain = value::list(quota, "spec.scopes").iter();
    let plain = plain.filter_map(Value::as_str);
    let selected = value::list(quota, "spec.scopeSelector.matchExpressions");
    plain
        .map(|scope| json!({"scopeName": scope, "operator": "Exists"}))
        .chain(selected.iter().cloned())
        .all(|scope| holds(&scope, counted, object))
}

fn holds(scope: &Value, counted: &Counted<'_>, object: &Value) -> bool {
    let name = value::text(scope, "scopeName");
    if counted.is("", "persistentvolumeclaims") {
        return name == "VolumeAttributesClass" && claim_has_class(scope, object);
    }
    if !counted.is("", "pods") {
        return false;
    }
    let ends = value::int(object, "spec.activeDeadlineSeconds").is_some_and(|seconds| seconds >= 0);
    match name {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(object),
        "NotBestEffort" => !is_best_effort(object),
        "PriorityClass" => selects(scope, value::text(object, "spec.priorityClassName")),
        "CrossNamespacePodAffinity" => looks_elsewhere(object),
        _ => false,
    }
}

/// The class that a claim has, had, or is to have.
fn claim_has_class(scope: &Value, claim: &Value) -> bool {
    let paths = [
        "spec.volumeAttributesClassName",
        "status.currentVolumeAttributesClassName",
        "status.modifyVolumeStatus.targetVolumeAttributesClassName",
    ];
    let classes: Vec<&str> = paths
        .iter()
        .map(|path| value::text(claim, path))
        .filter(|class| !class.is_empty())
        .collect();
    if classes.is_empty() {
        return selects(scope, "");
    }
    classes.iter().any(|class| selects(scope, class))
}

fn selects(scope: &Value, is: &str) -> bool {
    let among = || value::list(scope, "values").iter().any(|one| one == is);
    match value::text(scope, "operator") {
        "Exists" => !is.is_empty(),
        "DoesNotExist" => is.is_empty(),
        "In" => !is.is_empty() && among(),
        "NotIn" => !among(),
        _ => false,
    }
}

fn is_best_effort(pod: &Value) -> bool {
    let spec = serde_json::from_value(value::get(pod, "spec").clone()).unwrap_or_default();
    api::pod::qos_class(&spec) == "BestEffort"
}

/// Whether its affinity looks at pods of other namespaces.
fn looks_elsewhere(pod: &Value) -> bool {
    let terms = ["podAffinity", "podAntiAffinity"].into_iter().flat_map(|which| {
        let affinity = value::get(value::get(pod, "spec.affinity"), which);
        let required = value::list(affinity, "requiredDuringSchedulingIgnoredDuringExecution").iter();
        let preferred = value::list(affinity, "preferredDuringSchedulingIgnoredDuringExecution").iter();
        required.chain(preferred.map(|term| value::get(term, "podAffinityTerm")))
    });
    let mut terms = terms;
    terms.any(|term| !value::list(term, "namespaces").is_empty() || value::has(term, "namespaceSelector"))
}
