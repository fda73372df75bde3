//! Rules for `metadata`, the same for every kind (apimachinery `api/validation`).

use serde_json::Value;

use crate::names::{self, NameRule};
use crate::status::FieldError;
use crate::value::{Field, IMMUTABLE, entries, get, list, text};

/// Most bytes of all annotations together.
const ANNOTATIONS_MAX: usize = 256 * 1024;

/// What is wrong with the metadata of a new object.
pub fn validate(name_rule: NameRule, namespaced: bool, object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let meta = Field::at(object, "metadata");
    let generate = meta.get("generateName");
    if !generate.is_blank() {
        errors.extend(generate.invalid_each(name_rule(generate.text(), true)));
    }
    let name = meta.get("name");
    if name.is_blank() {
        errors.push(name.required("name or generateName is required"));
    } else {
        errors.extend(name.invalid_each(name_rule(name.text(), false)));
    }
    let namespace = meta.get("namespace");
    if namespaced && namespace.is_blank() {
        errors.push(namespace.required(""));
    } else if namespaced {
        errors.extend(namespace.invalid_each(names::is_dns_label(namespace.text())));
    } else if !namespace.is_blank() {
        errors.push(namespace.forbidden("not allowed on this type"));
    }
    always(&meta, &mut errors);
    errors
}

/// What is wrong with the metadata of an object inside another, of whatever kind it may be.
pub fn embedded(meta: &Field) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (key, prefix) in [("generateName", true), ("name", false)] {
        let name = meta.get(key);
        if !name.is_blank() {
            errors.extend(name.invalid_each(names::path_segment(name.text(), prefix)));
        }
    }
    let namespace = meta.get("namespace");
    if !namespace.is_blank() {
        errors.extend(namespace.invalid_each(names::is_dns_label(namespace.text())));
    }
    always(meta, &mut errors);
    errors
}

/// What is wrong with the finalizers of an object of a built-in kind, beyond what holds for all.
pub fn finalizers(object: &Value) -> Vec<FieldError> {
    let all = Field::at(object, "metadata").items("finalizers");
    all.iter().filter_map(unknown_finalizer).collect()
}

/// What is wrong with changed metadata.
pub fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let meta = Field::at(new, "metadata");
    for key in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        if get(meta.value, key) != get(get(old, "metadata"), key) {
            errors.push(meta.get(key).invalid(IMMUTABLE));
        }
    }
    finalizers_while_deleting(&meta, old, &mut errors);
    always(&meta, &mut errors);
    errors
}

/// Once an object is being deleted, finalizers may only go.
fn finalizers_while_deleting(meta: &Field, old: &Value, errors: &mut Vec<FieldError>) {
    if text(old, "metadata.deletionTimestamp").is_empty() {
        return;
    }
    let before = list(old, "metadata.finalizers");
    let mut added: Vec<&str> = list(meta.value, "finalizers")
        .iter()
        .filter(|f| !before.contains(f))
        .filter_map(Value::as_str)
        .collect();
    if !added.is_empty() {
        added.sort_unstable();
        let shown = added
            .iter()
            .map(|f| format!("{f:?}"))
            .collect::<Vec<_>>()
            .join(", ");
        errors.push(meta.get("finalizers").forbidden(format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{shown}}}"
        )));
    }
}

fn always(meta: &Field, errors: &mut Vec<FieldError>) {
    let generation = meta.get("generation");
    if generation.int().is_some_and(|n| n < 0) {
        errors.push(generation.invalid("must be greater than or equal to 0"));
    }
    labels(&meta.get("labels"), errors);
    annotations(&meta.get("annotations"), errors);
    owners(meta, errors);
    for finalizer in meta.items("finalizers") {
        let at = Field::new(finalizer.value, meta.path_of("finalizers"));
        errors.extend(at.invalid_each(names::is_qualified_name(finalizer.text())));
    }
}

/// What is wrong with a finalizer of a built-in kind: without a domain, it must be one of Kubernetes' own.
pub fn finalizer(at: &Field) -> Vec<FieldError> {
    let name = at.text();
    let mut errors: Vec<FieldError> = at.invalid_each(names::is_qualified_name(name)).collect();
    errors.extend(unknown_finalizer(at));
    errors
}

fn unknown_finalizer(at: &Field) -> Option<FieldError> {
    let standard = ["kubernetes", "orphan", "foregroundDeletion"];
    let unknown = !at.text().contains('/') && !standard.contains(&at.text());
    unknown.then(|| at.invalid("name is neither a standard finalizer name nor is it fully qualified"))
}

/// What is wrong with a map of labels; all errors carry the map's own path, as Kubernetes' do.
pub fn labels(map: &Field, errors: &mut Vec<FieldError>) {
    for (key, value) in map.value.as_object().into_iter().flatten() {
        for why in names::is_qualified_name(key) {
            errors.push(FieldError::invalid(&map.path, key.as_str(), why));
        }
        let value = value.as_str().unwrap_or("");
        for why in names::is_label_value(value) {
            errors.push(FieldError::invalid(&map.path, value, why));
        }
    }
}

/// What is wrong with a map of annotations.
pub fn annotations(map: &Field, errors: &mut Vec<FieldError>) {
    let mut size = 0;
    for (key, value) in map.value.as_object().into_iter().flatten() {
        for why in names::is_qualified_name(&key.to_lowercase()) {
            errors.push(FieldError::invalid(&map.path, key.as_str(), why));
        }
        size += key.len() + value.as_str().unwrap_or("").len();
    }
    if size > ANNOTATIONS_MAX {
        errors.push(FieldError::too_long(&map.path, ANNOTATIONS_MAX));
    }
}

fn owners(meta: &Field, errors: &mut Vec<FieldError>) {
    let mut controller: Option<&str> = None;
    for owner in meta.items("ownerReferences") {
        for key in ["apiVersion", "kind", "name", "uid"] {
            if owner.get(key).is_blank() {
                let why = if key == "apiVersion" {
                    "version must not be empty"
                } else {
                    "must not be empty"
                };
                errors.push(FieldError::invalid(
                    meta.path_of(&format!("ownerReferences.{key}")),
                    "",
                    why,
                ));
            }
        }
        if owner.get("kind").text() == "Event" {
            let why = format!(
                "{}, Kind=Event is disallowed from being an owner",
                owner.get("apiVersion").text()
            );
            errors.push(FieldError::invalid(
                meta.path_of("ownerReferences"),
                owner.value.clone(),
                why,
            ));
        }
        if !owner.get("controller").flag() {
            continue;
        }
        let name = owner.get("name").text();
        match controller {
            Some(first) => errors.push(FieldError::invalid(
                meta.path_of("ownerReferences"),
                Value::Array(list(meta.value, "ownerReferences").to_vec()),
                format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {name}"
                ),
            )),
            None => controller = Some(name),
        }
    }
}

/// Bumps `metadata.generation` when `spec` changed.
pub fn bump_generation_on_spec(new: &mut Value, old: &Value) {
    let changed = !crate::value::same(get(new, "spec"), get(old, "spec"));
    bump_generation(new, old, changed);
}

/// Gives `new` the generation of `old`, plus one if it changed.
pub fn bump_generation(new: &mut Value, old: &Value, changed: bool) {
    let before = get(old, "metadata.generation").as_i64().unwrap_or(0);
    set_generation(new, if changed { before + 1 } else { before });
}

/// Sets `metadata.generation`.
pub fn set_generation(object: &mut Value, generation: i64) {
    if let Some(meta) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        if generation == 0 {
            meta.remove("generation");
        } else {
            meta.insert("generation".to_owned(), generation.into());
        }
    }
}

/// Prepares a new object of the usual sort: no status, generation 1.
pub fn create_without_status(object: &mut Value) {
    crate::value::remove(object, "status");
    set_generation(object, 1);
}

/// Prepares a spec write of the usual sort: status stays, the generation counts changes of spec.
pub fn update_spec(new: &mut Value, old: &Value) {
    crate::value::keep(new, old, "status");
    bump_generation_on_spec(new, old);
}

/// Prepares a status write of the usual sort: spec and generation stay.
pub fn update_status(new: &mut Value, old: &Value) {
    crate::value::keep(new, old, "spec");
    crate::value::keep(new, old, "metadata.generation");
}

/// Number of entries in a map, such as `data`.
pub fn count(object: &Value, path: &str) -> usize {
    entries(object, path).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds;
    use serde_json::json;

    fn texts(errors: Vec<FieldError>) -> Vec<String> {
        errors.iter().map(ToString::to_string).collect()
    }

    fn new(plural: &str, meta: Value) -> Vec<String> {
        let kind = kinds::find("", "v1", plural).unwrap();
        let object = json!({"metadata": meta});
        texts(validate(kind.name_rule, kind.namespaced, &object))
    }

    #[test]
    fn names_and_namespaces() {
        assert_eq!(
            new("configmaps", json!({"namespace": "a"})),
            ["metadata.name: Required value: name or generateName is required"]
        );
        assert_eq!(
            new("configmaps", json!({"name": "a"})),
            ["metadata.namespace: Required value"]
        );
        assert_eq!(
            new("nodes", json!({"name": "a", "namespace": "b"})),
            ["metadata.namespace: Forbidden: not allowed on this type"]
        );
        assert_eq!(
            new("namespaces", json!({"name": "a.b"})),
            ["metadata.name: Invalid value: \"a.b\": must not contain dots"]
        );
        assert!(new("namespaces", json!({"generateName": "a-", "name": "a-x"})).is_empty());
    }

    #[test]
    fn labels_annotations_and_owners() {
        let meta =
            json!({"name": "a", "labels": {"a b": "c"}, "annotations": {"x": "y".repeat(ANNOTATIONS_MAX)}});
        let found = new("nodes", meta);
        assert!(found[0].starts_with("metadata.labels: Invalid value: \"a b\": name part must consist of"));
        assert_eq!(
            found[1],
            "metadata.annotations: Too long: may not be more than 262144 bytes"
        );
        let owner = |name: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": name, "uid": "u", "controller": true});
        let found = new(
            "nodes",
            json!({"name": "a", "ownerReferences": [owner("p"), owner("q")]}),
        );
        assert!(found[0].ends_with(
            "Only one reference can have Controller set to true. Found \"true\" in references for p and q"
        ));
    }

    #[test]
    fn what_stays_stays() {
        let old =
            json!({"metadata": {"name": "a", "uid": "1", "deletionTimestamp": "t", "finalizers": ["x.y/z"]}});
        let mut new = old.clone();
        new["metadata"]["uid"] = json!("2");
        new["metadata"]["finalizers"] = json!(["x.y/z", "x.y/w"]);
        assert_eq!(
            texts(validate_update(&new, &old)),
            [
                "metadata.uid: Invalid value: \"2\": field is immutable",
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted, found new \
              finalizers []string{\"x.y/w\"}"
            ]
        );
        assert!(validate_update(&old, &old).is_empty());
    }

    #[test]
    fn generations_count_changes() {
        let old = json!({"metadata": {"generation": 2}, "spec": {"a": 1}, "status": {"b": 1}});
        let mut new = json!({"metadata": {}, "spec": {"a": 1, "c": {}}, "status": {"b": 2}});
        update_spec(&mut new, &old);
        assert_eq!(
            (&new["metadata"]["generation"], &new["status"]),
            (&json!(2), &old["status"])
        );
        new["spec"]["a"] = json!(2);
        update_spec(&mut new, &old);
        assert_eq!(new["metadata"]["generation"], 3);
    }
}
