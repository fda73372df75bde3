//! The kinds of `metrics.k8s.io`, which are read only.

use std::sync::Arc;

use api::custom::{CustomKind, Fixed};
use api::kind::Column;
use api::object;
use api::quantity::Quantity;
use jiff::Timestamp;
use serde_json::{Value, json};

/// The group.
pub const GROUP: &str = "metrics.k8s.io";
/// Its version.
pub(super) const VERSION: &str = "v1beta1";

const COLUMNS: &[Column] = &[
    Column::NAME,
    Column::text("cpu"),
    Column::text("memory"),
    Column::text("Window"),
];

/// NodeMetrics and PodMetrics, each under the name of what it describes.
pub fn all() -> Vec<(&'static str, Arc<CustomKind>)> {
    let made = |plural: &str, kind: &str, namespaced: bool, schema: Value| {
        let fixed = Fixed {
            group: GROUP,
            version: VERSION,
            plural,
            kind,
            namespaced,
            verbs: &["get", "list"],
            schema,
            columns: COLUMNS,
            row,
        };
        Arc::new(CustomKind::fixed(fixed))
    };
    let node = schema(
        "NodeMetrics sets resource usage metrics of a node.",
        "usage",
        usage(),
    );
    let container = json!({"type": "object", "description": "Resource usage of a container.",
        "properties": {"name": {"type": "string", "description": "The container's name."}, "usage": usage()}});
    let containers =
        json!({"type": "array", "description": "Metrics of all containers that run.", "items": container});
    let pod = schema(
        "PodMetrics sets resource usage metrics of a pod.",
        "containers",
        containers,
    );
    vec![
        ("nodes.metrics.k8s.io", made("nodes", "NodeMetrics", false, node)),
        ("pods.metrics.k8s.io", made("pods", "PodMetrics", true, pod)),
    ]
}

fn usage() -> Value {
    json!({"type": "object", "description": "CPU and memory in use.", "additionalProperties": {
        "x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}})
}

fn schema(description: &str, key: &str, of: Value) -> Value {
    json!({"type": "object", "description": description, "properties": {
        "timestamp": {"type": "string", "format": "date-time", "description": "When it was measured."},
        "window": {"type": "string", "description": "Over how long it was measured, up to the timestamp."},
        key: of,
    }})
}

/// Name, what is used in sum, and the window.
fn row(object: &Value, _: Timestamp) -> Vec<Value> {
    let sum = |of: &str| match object.get("usage") {
        Some(usage) => usage[of].clone(),
        None => total(object, of),
    };
    vec![
        object::name(object).into(),
        sum("cpu"),
        sum("memory"),
        object["window"].clone(),
    ]
}

fn total(pod: &Value, of: &str) -> Value {
    let containers = object::get_list(pod, &["containers"]);
    let amounts = containers
        .iter()
        .filter_map(|c| Quantity::from_json(&c["usage"][of]).ok());
    amounts
        .reduce(|a, b| a + b)
        .map_or(Value::Null, |sum| sum.to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_row_is_the_sum_of_its_containers() {
        let container = |cpu: &str| json!({"name": "c", "usage": {"cpu": cpu, "memory": "1Mi"}});
        let pod = json!({"metadata": {"name": "web"}, "window": "15s",
            "containers": [container("1500u"), container("500u")]});
        assert_eq!(
            row(&pod, Timestamp::UNIX_EPOCH),
            [json!("web"), json!("2m"), json!("2Mi"), json!("15s")]
        );
    }

    #[test]
    fn they_are_read_only_kinds_like_any_other() {
        let kinds = all();
        let node = kinds[0].1.kind();
        assert_eq!(
            (node.kind, node.plural, node.namespaced),
            ("NodeMetrics", "nodes", false)
        );
        assert_eq!(node.verbs, ["get", "list"]);
        assert_eq!(kinds[1].1.open_api()["properties"]["window"]["type"], "string");
    }
}
