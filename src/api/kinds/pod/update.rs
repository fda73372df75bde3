//! Rules for changing a pod: hardly anything in its spec may change.

use std::collections::BTreeSet;

use serde_json::Value;

use super::rules::{pod_rules, qos_class, without};
use super::{annotations, containers, resources};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, each, get, get_mut, int, keep, list, remove, same, set, text};

const ONLY: &str = "pod updates may not change fields other than `spec.containers[*].image`,\
    `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing \
    tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)\n";

/// Rules for an ordinary update.
pub fn validate(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (new_spec, old_spec) = (Field::at(new, "spec"), get(old, "spec"));
    pod_rules(new, &mut errors);
    annotations::check_update(new, old, &mut errors);
    if !same_number(&new_spec, old_spec, "containers", "containers", &mut errors)
        || !same_number(
            &new_spec,
            old_spec,
            "initContainers",
            "initContainers",
            &mut errors,
        )
    {
        return errors;
    }
    deadline(&new_spec, old_spec, &mut errors);
    tolerations(&new_spec, old_spec, &mut errors);
    scheduling_gates(&new_spec, old_spec, &mut errors);
    let munged = munge(new_spec.value, old_spec);
    if !same(&munged, old_spec) {
        errors.push(new_spec.forbidden(format!("{ONLY}{}", difference(old_spec, &munged))));
    }
    errors
}

fn same_number(new: &Field, old: &Value, key: &str, what: &str, errors: &mut Vec<FieldError>) -> bool {
    let same = list(new.value, key).len() == list(old, key).len();
    if !same {
        errors.push(
            new.get(what)
                .forbidden("pod updates may not add or remove containers"),
        );
        return false;
    }
    for container in new.items(key) {
        containers::image(&container.get("image"), errors);
    }
    true
}

/// The deadline may be set, or brought forward.
fn deadline(new: &Field, old: &Value, errors: &mut Vec<FieldError>) {
    let field = new.get("activeDeadlineSeconds");
    if let Some(seconds) = field.int() {
        errors.extend(field.invalid_each(names::in_range(seconds, 0, i64::from(i32::MAX))));
    }
    let Some(before) = int(old, "activeDeadlineSeconds") else {
        return;
    };
    match field.int() {
        None => errors.push(FieldError::invalid(
            &field.path,
            Value::Null,
            "must not update from a positive integer to nil value",
        )),
        Some(now) if now > before => {
            errors.push(field.invalid("must be less than or equal to previous value"))
        }
        Some(_) => {}
    }
}

fn tolerations(new: &Field, old: &Value, errors: &mut Vec<FieldError>) {
    let bare = |t: &Value| without(t, ["tolerationSeconds"]);
    let now: Vec<Value> = list(new.value, "tolerations").iter().map(bare).collect();
    let kept = list(old, "tolerations").iter().all(|t| now.contains(&bare(t)));
    if !kept {
        errors.push(
            new.get("tolerations")
                .forbidden("existing toleration can not be modified except its tolerationSeconds"),
        );
    }
}

fn scheduling_gates(new: &Field, old: &Value, errors: &mut Vec<FieldError>) {
    let before: BTreeSet<&str> = list(old, "schedulingGates")
        .iter()
        .map(|g| text(g, "name"))
        .collect();
    for gate in new.items("schedulingGates") {
        let name = gate.get("name");
        if !before.contains(name.text()) {
            let why = format!(
                "only deletion is allowed, but found new scheduling gate '{}'",
                name.text()
            );
            errors.push(name.forbidden(why));
        }
    }
}

/// The new spec with everything undone that may change.
fn munge(new: &Value, old: &Value) -> Value {
    let mut spec = new.clone();
    for key in ["containers", "initContainers"] {
        let images: Vec<Value> = list(old, key).iter().map(|c| get(c, "image").clone()).collect();
        let mut images = images.into_iter();
        each(&mut spec, key, |container| {
            set(container, "image", images.next().unwrap_or_default())
        });
    }
    for key in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(&mut spec, old, key);
    }
    let gated = !list(old, "schedulingGates").is_empty();
    if gated && text(new, "nodeName").is_empty() {
        munge_placement(&mut spec, old);
    }
    if int(old, "terminationGracePeriodSeconds").is_some_and(|n| n < 0)
        && int(new, "terminationGracePeriodSeconds") == Some(1)
    {
        keep(&mut spec, old, "terminationGracePeriodSeconds");
    }
    spec
}

/// While gates hold a pod back, its node selector may gain labels, and an absent node affinity may be set.
fn munge_placement(spec: &mut Value, old: &Value) {
    let added_only = get(old, "nodeSelector")
        .as_object()
        .into_iter()
        .flatten()
        .all(|(k, v)| get(spec, "nodeSelector").get(k) == Some(v));
    if added_only {
        keep(spec, old, "nodeSelector");
    }
    if get(old, "affinity.nodeAffinity").is_null()
        && let Some(affinity) = get_mut(spec, "affinity")
    {
        remove(affinity, "nodeAffinity");
    }
}

/// The fields that differ, one line each for the old (`-`) and the new (`+`) value.
fn difference(old: &Value, new: &Value) -> String {
    let mut lines = Vec::new();
    collect(old, new, "", &mut lines);
    lines.join("\n")
}

fn collect(old: &Value, new: &Value, path: &str, lines: &mut Vec<String>) {
    if same(old, new) {
        return;
    }
    match (old, new) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() {
                    key.clone()
                } else {
                    format!("{path}.{key}")
                };
                collect(get_key(old, key), get_key(new, key), &path, lines);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                collect(a, b, &format!("{path}[{i}]"), lines);
            }
        }
        _ => {
            lines.push(format!("- {path}: {old}"));
            lines.push(format!("+ {path}: {new}"));
        }
    }
}

fn get_key<'a>(value: &'a Value, key: &str) -> &'a Value {
    const NULL: &Value = &Value::Null;
    value.get(key).unwrap_or(NULL)
}

/// A write to `ephemeralcontainers` changes nothing but that list.
pub fn prepare_ephemeral(new: &mut Value, old: &Value) {
    let wanted = get(new, "spec.ephemeralContainers").clone();
    restore_all_but_spec(new, old);
    if let Some(spec) = get_mut(new, "spec") {
        if wanted.is_null() {
            remove(spec, "ephemeralContainers");
        } else {
            set(spec, "ephemeralContainers", wanted);
        }
    }
    crate::kinds::metadata::bump_generation_on_spec(new, old);
}

/// Gives `new` everything of `old`, its resource version excepted.
fn restore_all_but_spec(new: &mut Value, old: &Value) {
    let version = get(new, "metadata.resourceVersion").clone();
    let managed = get(new, "metadata.managedFields").clone();
    *new = old.clone();
    if let Some(meta) = get_mut(new, "metadata") {
        for (key, value) in [("resourceVersion", version), ("managedFields", managed)] {
            if !value.is_null() {
                set(meta, key, value);
            }
        }
    }
}

/// Rules for a write to `ephemeralcontainers`: containers may only be added.
pub fn validate_ephemeral(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(new, "spec");
    pod_rules(new, &mut errors);
    let now = spec.items("ephemeralContainers");
    for before in list(old, "spec.ephemeralContainers") {
        let name = text(before, "name");
        match now.iter().find(|c| c.get("name").text() == name) {
            None => errors.push(spec.get("ephemeralContainers").forbidden(format!(
                "existing ephemeral containers {name:?} may not be removed\n"
            ))),
            Some(same_name) if !same(same_name.value, before) => {
                errors.push(spec.get("ephemeralContainers").forbidden(format!(
                    "existing ephemeral containers {name:?} may not be changed\n"
                )))
            }
            Some(_) => {}
        }
    }
    errors
}

/// A write to `resize` changes nothing but containers' resources and resize policies.
pub fn prepare_resize(new: &mut Value, old: &Value) {
    let wanted = get(new, "spec").clone();
    restore_all_but_spec(new, old);
    for key in ["containers", "initContainers"] {
        let Some(spec) = get_mut(new, "spec") else { return };
        each(spec, key, |container| {
            let name = text(container, "name").to_owned();
            let Some(asked) = list(&wanted, key).iter().find(|c| text(c, "name") == name) else {
                return;
            };
            for part in ["resources", "resizePolicy"] {
                keep(container, asked, part);
            }
        });
    }
    crate::kinds::metadata::bump_generation_on_spec(new, old);
}

/// Rules for a write to `resize`.
pub fn validate_resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(new, "spec");
    for key in ["containers", "initContainers"] {
        for container in spec.items(key) {
            resources::of_container(&container.get("resources"), &spec, &mut errors);
        }
    }
    if qos_class(new) != qos_class(old) {
        errors.push(FieldError::invalid(
            "spec",
            get(new, "spec").clone(),
            "Pod QOS Class may not change as a result of resizing",
        ));
    }
    errors
}
