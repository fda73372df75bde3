//! `scale`: how many replicas, in the one form that all scalable kinds share (autoscaling/v1).

use api::kind::Kind;
use api::object;
use api::selector;
use api::status::Status;
use api::value;
use serde_json::{Map, Value, json};

/// An object as a Scale.
///
/// # Errors
/// 500 for an object without metadata.
pub(super) fn view(kind: &Kind, live: &Value) -> Result<Value, Status> {
    let from = object::get_map(live, &["metadata"]);
    if from.is_empty() {
        return Err(Status::internal(format!("a {} without metadata", kind.kind)));
    }
    let paths = &kind.scale_paths;
    let kept = ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"];
    let metadata: Map<String, Value> = kept
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), from.get(*key)?.clone())))
        .collect();
    let mut scale = json!({
        "apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": metadata,
        "spec": {}, "status": { "replicas": value::int(live, paths.current).unwrap_or(0) },
    });
    // Go's omitempty leaves a zero out.
    if let Some(replicas) = value::int(live, paths.replicas).filter(|n| *n != 0) {
        scale["spec"]["replicas"] = replicas.into();
    }
    let selector = selector_text(value::get(live, paths.selector));
    if !selector.is_empty() {
        scale["status"]["selector"] = selector.into();
    }
    Ok(scale)
}

/// A selector as text: a label selector, a plain map of labels, or a text already.
fn selector_text(selector: &Value) -> String {
    match selector {
        Value::String(text) => text.clone(),
        Value::Object(map) if !map.is_empty() && map.values().all(Value::is_string) => {
            let pair =
                |(key, value): (&String, &Value)| format!("{key}={}", value.as_str().unwrap_or_default());
            map.iter().map(pair).collect::<Vec<_>>().join(",")
        }
        other => match selector::format(other).as_str() {
            "<none>" => String::new(),
            text => text.to_owned(),
        },
    }
}

/// The object with a submitted Scale's replicas.
pub(super) fn merge(kind: &Kind, live: &Value, scale: &Value) -> Value {
    let mut new = live.clone();
    let replicas = value::int(scale, "spec.replicas").unwrap_or(0);
    let path: Vec<&str> = kind.scale_paths.replicas.split('.').collect();
    object::set(&mut new, &path, replicas);
    new
}

/// What an applied Scale says about the object itself.
pub(super) fn applied(kind: &Kind, scale: &Value) -> Value {
    let mut out = json!({
        "apiVersion": kind.api_version(), "kind": kind.kind,
        "metadata": { "name": object::name(scale) },
    });
    if value::has(scale, "spec.replicas") {
        let path: Vec<&str> = kind.scale_paths.replicas.split('.').collect();
        object::set(&mut out, &path, value::get(scale, "spec.replicas").clone());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_as_a_scale_and_back() {
        let kind = api::kinds::find("apps", "v1", "deployments").unwrap();
        let live = json!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "u", "resourceVersion": "7", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}}, "status": {"replicas": 2},
        });
        let scale = view(kind, &live).unwrap();
        assert_eq!(scale["spec"]["replicas"], 3);
        assert_eq!(scale["status"], json!({"replicas": 2, "selector": "app=web"}));
        assert_eq!(scale["metadata"].get("labels"), None);
        let new = merge(kind, &live, &json!({"spec": {"replicas": 5}}));
        assert_eq!(new["spec"]["replicas"], 5);
        assert_eq!(new["spec"]["selector"], live["spec"]["selector"]);
        assert_eq!(
            view(kind, &merge(kind, &live, &json!({}))).unwrap()["spec"],
            json!({})
        );
    }
}
