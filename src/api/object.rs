//! Reading and writing the parts of an object that all kinds share
//! (`meta/v1.ObjectMeta`), on plain JSON values.
//!
//! Reading never fails: what is absent or of the wrong type reads as empty.

use std::sync::LazyLock;

use serde_json::{Map, Value};

static NULL: Value = Value::Null;
static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// The value at `path`, or `Null`.
pub fn get<'a>(object: &'a Value, path: &[&str]) -> &'a Value {
    path.iter()
        .try_fold(object, |at, key| at.get(*key))
        .unwrap_or(&NULL)
}

/// The text at `path`, or the empty text.
pub fn get_str<'a>(object: &'a Value, path: &[&str]) -> &'a str {
    get(object, path).as_str().unwrap_or_default()
}

/// The integer at `path`.
pub fn get_i64(object: &Value, path: &[&str]) -> Option<i64> {
    get(object, path).as_i64()
}

/// The boolean at `path`; false when absent.
pub fn get_bool(object: &Value, path: &[&str]) -> bool {
    get(object, path).as_bool().unwrap_or_default()
}

/// The list at `path`; empty when absent.
pub fn get_list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    get(object, path)
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// The map at `path`; empty when absent.
pub fn get_map<'a>(object: &'a Value, path: &[&str]) -> &'a Map<String, Value> {
    get(object, path).as_object().unwrap_or(&EMPTY)
}

/// The map at `path`, made (with its parents) where there is none. A value of
/// another type in the way is replaced.
pub fn map_mut<'a>(object: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut at = as_map(object);
    for key in path {
        at = as_map(at.entry(*key).or_insert(Value::Null));
    }
    at
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made a map just above"),
    }
}

/// Puts `value` at `path`, making parents where needed. An empty path replaces the whole.
pub fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    match path.split_last() {
        Some((last, parents)) => {
            map_mut(object, parents).insert((*last).to_owned(), value.into());
        }
        None => *object = value.into(),
    }
}

/// Takes away what is at `path`.
pub fn remove(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut at = object;
    for key in parents {
        at = at.get_mut(*key)?;
    }
    at.as_object_mut()?.remove(*last)
}

/// `apiVersion`.
pub fn api_version(object: &Value) -> &str {
    get_str(object, &["apiVersion"])
}

/// `kind`.
pub fn kind(object: &Value) -> &str {
    get_str(object, &["kind"])
}

/// Group and version of an `apiVersion`: `apps/v1` → (`apps`, `v1`), `v1` → (``, `v1`).
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

/// The `apiVersion` of a group and version.
pub fn join_api_version(group: &str, version: &str) -> String {
    if group.is_empty() {
        version.to_owned()
    } else {
        format!("{group}/{version}")
    }
}

/// Puts `apiVersion` and `kind`.
pub fn set_kind(object: &mut Value, group: &str, version: &str, kind: &str) {
    set(object, &["apiVersion"], join_api_version(group, version));
    set(object, &["kind"], kind);
}

/// `metadata`, to be changed.
pub fn metadata_mut(object: &mut Value) -> &mut Map<String, Value> {
    map_mut(object, &["metadata"])
}

/// `metadata.name`.
pub fn name(object: &Value) -> &str {
    get_str(object, &["metadata", "name"])
}

/// `metadata.namespace`.
pub fn namespace(object: &Value) -> &str {
    get_str(object, &["metadata", "namespace"])
}

/// `metadata.uid`.
pub fn uid(object: &Value) -> &str {
    get_str(object, &["metadata", "uid"])
}

/// `metadata.resourceVersion`.
pub fn resource_version(object: &Value) -> &str {
    get_str(object, &["metadata", "resourceVersion"])
}

/// `metadata.generation`; 0 when absent.
pub fn generation(object: &Value) -> i64 {
    get_i64(object, &["metadata", "generation"]).unwrap_or_default()
}

/// `metadata.deletionTimestamp`, as text.
pub fn deletion_timestamp(object: &Value) -> Option<&str> {
    get(object, &["metadata", "deletionTimestamp"]).as_str()
}

/// Whether the object is being deleted.
pub fn is_deleting(object: &Value) -> bool {
    deletion_timestamp(object).is_some()
}

/// `metadata.creationTimestamp`, parsed.
pub fn creation_timestamp(object: &Value) -> Option<jiff::Timestamp> {
    get_str(object, &["metadata", "creationTimestamp"]).parse().ok()
}

/// `metadata.labels` as pairs.
pub fn labels(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    texts(get_map(object, &["metadata", "labels"]))
}

/// One label.
pub fn label<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, &["metadata", "labels", key]).as_str()
}

/// `metadata.annotations` as pairs.
pub fn annotations(object: &Value) -> impl Iterator<Item = (&str, &str)> {
    texts(get_map(object, &["metadata", "annotations"]))
}

/// One annotation.
pub fn annotation<'a>(object: &'a Value, key: &str) -> Option<&'a str> {
    get(object, &["metadata", "annotations", key]).as_str()
}

fn texts(map: &Map<String, Value>) -> impl Iterator<Item = (&str, &str)> {
    map.iter()
        .map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
}

/// Puts one annotation.
pub fn set_annotation(object: &mut Value, key: &str, value: impl Into<String>) {
    map_mut(object, &["metadata", "annotations"]).insert(key.to_owned(), Value::String(value.into()));
}

/// `metadata.ownerReferences`.
pub fn owner_references(object: &Value) -> &[Value] {
    get_list(object, &["metadata", "ownerReferences"])
}

/// The owner reference whose `controller` is true.
pub fn controller_of(object: &Value) -> Option<&Value> {
    owner_references(object)
        .iter()
        .find(|owner| get_bool(owner, &["controller"]))
}

/// `metadata.finalizers`.
pub fn finalizers(object: &Value) -> Vec<&str> {
    get_list(object, &["metadata", "finalizers"])
        .iter()
        .filter_map(Value::as_str)
        .collect()
}

/// Whether `metadata.finalizers` names `finalizer`.
pub fn has_finalizer(object: &Value, finalizer: &str) -> bool {
    finalizers(object).contains(&finalizer)
}

/// Adds a finalizer unless it is there.
pub fn add_finalizer(object: &mut Value, finalizer: &str) {
    if has_finalizer(object, finalizer) {
        return;
    }
    match metadata_mut(object)
        .entry("finalizers")
        .or_insert_with(|| Value::Array(Vec::new()))
    {
        Value::Array(list) => list.push(finalizer.into()),
        other => *other = Value::Array(vec![finalizer.into()]),
    }
}

/// Takes a finalizer away; true when it was there.
pub fn remove_finalizer(object: &mut Value, finalizer: &str) -> bool {
    let metadata = metadata_mut(object);
    let Some(Value::Array(list)) = metadata.get_mut("finalizers") else {
        return false;
    };
    let before = list.len();
    list.retain(|f| f.as_str() != Some(finalizer));
    let (removed, empty) = (list.len() < before, list.is_empty());
    if empty {
        metadata.remove("finalizers");
    }
    removed
}

/// A moment as `meta/v1.Time` writes it: UTC, whole seconds.
pub fn time_text(at: jiff::Timestamp) -> String {
    format!("{at:.0}")
}

/// A moment as `meta/v1.MicroTime` writes it: UTC, six decimals.
pub fn micro_time_text(at: jiff::Timestamp) -> String {
    format!("{at:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reads_absent_parts_as_empty() {
        let object = json!({"metadata": "not a map"});
        assert_eq!(name(&object), "");
        assert_eq!(labels(&object).count(), 0);
        assert!(finalizers(&json!(null)).is_empty());
    }

    #[test]
    fn makes_parents_when_setting() {
        let mut object = json!({"metadata": null});
        set(&mut object, &["metadata", "labels", "a"], "b");
        assert_eq!(label(&object, "a"), Some("b"));
        assert_eq!(
            remove(&mut object, &["metadata", "labels", "a"]),
            Some(json!("b"))
        );
        assert_eq!(remove(&mut object, &["spec", "x"]), None);
    }

    #[test]
    fn finalizers_come_and_go() {
        let mut object = json!({});
        add_finalizer(&mut object, "x/y");
        add_finalizer(&mut object, "x/y");
        assert_eq!(finalizers(&object), ["x/y"]);
        assert!(remove_finalizer(&mut object, "x/y"));
        assert!(!remove_finalizer(&mut object, "x/y"));
        assert_eq!(object, json!({"metadata": {}}));
    }

    #[test]
    fn writes_times_as_kubernetes_does() {
        let at: jiff::Timestamp = "2024-05-01T10:00:00.1234567Z".parse().unwrap();
        assert_eq!(time_text(at), "2024-05-01T10:00:00Z");
        assert_eq!(micro_time_text(at), "2024-05-01T10:00:00.123456Z");
        let early = jiff::Timestamp::new(-1, -999_999_999).unwrap();
        assert_eq!(time_text(early), "1969-12-31T23:59:58Z");
        assert_eq!(micro_time_text(early), "1969-12-31T23:59:58.000000Z");
        let whole = jiff::Timestamp::UNIX_EPOCH;
        assert_eq!(micro_time_text(whole), "1970-01-01T00:00:00.000000Z");
    }
}
