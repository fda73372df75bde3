//! What the kinds that make pods from a template have in common.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, pod, warnings};
use crate::kind::Column;
use crate::selector::{self, LabelSelector};
use crate::status::FieldError;
use crate::value::{Field, fill, fill_text, get, get_mut, int, text};

/// Defaults of the spec's pod template.
pub fn default_template(object: &mut Value) {
    if let Some(spec) = get_mut(object, "spec") {
        pod::default_template(spec);
    }
}

/// Defaults of how pods are replaced: `strategy` is where the spec says it, `rolling` what rolling updates get.
pub fn default_strategy(spec: &mut Value, strategy: &str, rolling: &[(&str, Value)]) {
    fill(spec, strategy, json!({}));
    let Some(strategy) = get_mut(spec, strategy) else {
        return;
    };
    fill_text(strategy, "type", "RollingUpdate");
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    fill(strategy, "rollingUpdate", json!({}));
    if let Some(place) = get_mut(strategy, "rollingUpdate") {
        for (key, value) in rolling {
            fill(place, key, value.clone());
        }
    }
}

/// The selector must be there and pick something: nothing would be kept of pods that are anybody's. `none` is
/// what Kubernetes says of one that picks everything.
pub fn selector(spec: &Field, none: &str, errors: &mut Vec<FieldError>) {
    let selector = spec.get("selector");
    if !selector.is_set() {
        errors.push(selector.required(""));
        return;
    }
    selector::validate(&selector, errors);
    if selector::is_empty(selector.value) {
        errors.push(selector.invalid(none));
    }
}

/// The selector must pick the pods of the template.
pub fn selected(spec: &Field, errors: &mut Vec<FieldError>) {
    let (selector, labels) = (spec.get("selector"), spec.get("template.metadata.labels"));
    if !selector::is_empty(selector.value) && !LabelSelector::from_json(selector.value).matches(labels.value)
    {
        errors.push(not_selected(&labels));
    }
}

/// The error of a template whose pods would not be selected.
pub fn not_selected(labels: &Field) -> FieldError {
    let why = "`selector` does not match template `labels`";
    FieldError::invalid(&labels.path, labels.value.clone(), why)
}

/// The selector, and a template whose pods it picks.
pub fn selector_and_template(spec: &Field, none: &str, errors: &mut Vec<FieldError>) {
    selector(spec, none, errors);
    selected(spec, errors);
    pod::validate_template(&spec.get("template"), errors);
}

/// An update strategy of a type that there is not, as Kubernetes' internal form shows it.
pub fn unknown_strategy(strategy: &Field) -> Value {
    json!({"Type": strategy.get("type").text(), "RollingUpdate": strategy.get("rollingUpdate").value})
}

/// `errors` of a changed object, and one more if its selector is another.
pub fn with_same_selector(mut errors: Vec<FieldError>, new: &Value, old: &Value) -> Vec<FieldError> {
    Field::at(new, "spec.selector").immutable(old, &mut errors);
    errors
}

/// Warnings about the pod template, when the spec has changed.
pub fn template_warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = Vec::new();
    if warnings::spec_changed(new, old) {
        pod::template_warnings(&Field::at(new, "spec.template"), &mut said);
    }
    said
}

/// The same, and about a name that becomes part of the pods' names.
pub fn warnings(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = pod_names(new, old);
    said.extend(template_warnings(new, old));
    said
}

/// A warning about a new object's name, if pods cannot have it as their host name.
pub fn pod_names(new: &Value, old: Option<&Value>) -> Vec<String> {
    match old {
        Some(_) => Vec::new(),
        None => warnings::name(new, "Pod names and hostnames"),
    }
}

/// Pods that are kept running restart always, and have no deadline.
pub fn always_running(spec: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let policy = spec.get("template.spec.restartPolicy");
    if !policy.is_blank() && policy.text() != "Always" {
        errors.push(policy.not_supported(&["Always"]));
    }
    let deadline = spec.get("template.spec.activeDeadlineSeconds");
    if deadline.is_set() {
        errors.push(deadline.forbidden(format!("activeDeadlineSeconds in {kind} is not Supported")));
    }
}

/// Counts in a status are not negative, and none of `parts` exceeds `replicas`.
pub fn status_counts(object: &Value, parts: &[&str], errors: &mut Vec<FieldError>) {
    let status = Field::at(object, "status");
    for key in ["observedGeneration", "replicas"].iter().chain(parts) {
        status.get(key).non_negative(errors);
    }
    let replicas = int(object, "status.replicas").unwrap_or(0);
    for key in parts {
        let part = status.get(key);
        if part.int().is_some_and(|n| n > replicas) {
            errors.push(part.invalid("cannot be greater than status.replicas"));
        }
    }
    let (ready, available) = (status.get("readyReplicas"), status.get("availableReplicas"));
    if available.int() > ready.int() && available.int().unwrap_or(0) > ready.int().unwrap_or(0) {
        errors.push(available.invalid("cannot be greater than readyReplicas"));
    }
}

/// Rules for the status of what only counts pods: ReplicaSet and ReplicationController.
pub fn validate_replicas(new: &Value, _old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let parts = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    status_counts(new, &parts, &mut errors);
    errors
}

/// The columns of what only counts pods.
pub const REPLICAS_COLUMNS: &[Column] = &[
    Column::NAME,
    Column::integer("Desired"),
    Column::integer("Current"),
    Column::integer("Ready"),
    Column::AGE,
    Column::text("Containers").wide(),
    Column::text("Images").wide(),
    Column::text("Selector").wide(),
];

/// The cells of [`REPLICAS_COLUMNS`].
pub fn replicas_row(object: &Value, selector: String, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| json!(int(object, path).unwrap_or(0));
    let (containers, images) = cells::containers_and_images(object, "spec.template.spec");
    vec![
        cells::name(object),
        count("spec.replicas"),
        count("status.replicas"),
        count("status.readyReplicas"),
        cells::age(object, now),
        json!(containers),
        json!(images),
        json!(selector),
    ]
}

/// A count of hash collisions never goes down.
pub fn collision_count(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let field = Field::at(new, "status.collisionCount");
    field.non_negative(errors);
    if int(old, "status.collisionCount").unwrap_or(0) > field.int().unwrap_or(0) {
        errors.push(field.invalid("cannot be decremented"));
    }
}

/// A number or percentage such as `25%`; `None` when it is neither.
pub fn int_or_percent(value: &Value) -> Option<(i64, bool)> {
    match value {
        Value::Number(n) => Some((n.as_i64()?, false)),
        Value::String(s) => {
            let digits = s.strip_suffix('%')?;
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            Some((plain.then(|| digits.parse().ok())??, true))
        }
        _ => None,
    }
}

/// Rules for a number or percentage.
pub fn validate_int_or_percent(field: &Field, errors: &mut Vec<FieldError>) {
    match int_or_percent(field.value) {
        Some((n, false)) if n < 0 => errors.push(field.invalid("must be greater than or equal to 0")),
        Some(_) => {}
        None if field.value.is_string() => errors.push(field.invalid(
            "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', \
             regex used for validation is '[0-9]+%')",
        )),
        None => {}
    }
}

/// A percentage may not exceed 100.
pub fn at_most_100_percent(field: &Field, errors: &mut Vec<FieldError>) {
    if let Some((n, true)) = int_or_percent(field.value)
        && n > 100
    {
        errors.push(field.invalid("must not be greater than 100%"));
    }
}

/// The cells CONTAINERS, IMAGES and SELECTOR.
pub fn wide_cells(object: &Value) -> [Value; 3] {
    let (containers, images) = cells::containers_and_images(object, "spec.template.spec");
    [
        containers.into(),
        images.into(),
        selector::format(get(object, "spec.selector")).into(),
    ]
}
