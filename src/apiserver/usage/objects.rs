//! The objects of `metrics.k8s.io`. Pure.

use api::go;
use api::object;
use api::quantity;
use api::request::Request;
use api::status::Status;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::{GROUP, VERSION};
use super::rate::{Amount, Used};

/// NodeMetrics of a node; `None` if it was not measured.
pub(super) fn node(node: &Value, used: &Used, now: Timestamp) -> Option<Value> {
    let mut made = head("NodeMetrics", node, used, now);
    made["usage"] = amount(used.node?);
    Some(made)
}

/// PodMetrics of a pod; `None` unless every container that runs was measured, or none runs.
pub(super) fn pod(pod: &Value, used: &Used, now: Timestamp) -> Option<Value> {
    let place = |container: &str| {
        let (namespace, name) = (object::namespace(pod), object::name(pod));
        (namespace.to_owned(), name.to_owned(), container.to_owned())
    };
    let names = running(pod);
    let measured: Option<Vec<Value>> = names
        .iter()
        .map(|name| Some(json!({"name": name, "usage": amount(*used.containers.get(&place(name))?)})))
        .collect();
    let containers = measured.filter(|all| !all.is_empty())?;
    let mut made = head("PodMetrics", pod, used, now);
    made["containers"] = containers.into();
    Some(made)
}

/// The containers that run, restartable ones that came first included.
fn running(pod: &Value) -> Vec<&str> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let all = lists
        .iter()
        .flat_map(|list| object::get_list(pod, &["status", list]));
    all.filter(|status| status["state"]["running"].is_object())
        .map(|status| object::get_str(status, &["name"]))
        .collect()
}

/// A list of either kind.
pub(super) fn list(plural: &str, items: Vec<Value>) -> Value {
    json!({"kind": format!("{}List", kind(plural)), "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": {},
        "items": items})
}

fn kind(plural: &str) -> &'static str {
    if plural == "nodes" {
        "NodeMetrics"
    } else {
        "PodMetrics"
    }
}

/// The refusal when what is asked for was not measured.
pub(super) fn not_found(request: &Request) -> Status {
    let plural = kind(&request.resource.plural).to_lowercase();
    let name = match request.namespace.as_str() {
        "" => request.name.clone(),
        namespace => format!("{namespace}/{}", request.name),
    };
    Status::not_found(GROUP, &plural, &name)
}

fn head(kind: &str, of: &Value, used: &Used, now: Timestamp) -> Value {
    let mut metadata = json!({"name": object::name(of), "creationTimestamp": object::time_text(now)});
    for key in ["namespace", "labels"] {
        if let Some(value) = of["metadata"].get(key) {
            metadata[key] = value.clone();
        }
    }
    json!({
        "kind": kind, "apiVersion": format!("{GROUP}/{VERSION}"), "metadata": metadata,
        "timestamp": object::time_text(used.at), "window": go::duration_in_milliseconds(used.window),
    })
}

fn amount(of: Amount) -> Value {
    let cpu = format!("{}n", of.cpu_nanocores);
    let memory = match of.memory_bytes % 1024 {
        0 => format!("{}Ki", of.memory_bytes / 1024),
        _ => of.memory_bytes.to_string(),
    };
    // Numbers are always quantities; if they were not, the text is what was measured.
    json!({
        "cpu": quantity::canonical(&cpu).unwrap_or(cpu),
        "memory": quantity::canonical(&memory).unwrap_or(memory),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use std::time::Duration;

    use super::*;

    fn used() -> Used {
        let amount = Amount {
            cpu_nanocores: 156_340_437,
            memory_bytes: 1_040_556_032,
        };
        let place = |container: &str| ("ns".to_owned(), "web".to_owned(), container.to_owned());
        Used {
            window: Duration::from_millis(15_020),
            node: Some(amount),
            containers: BTreeMap::from([(place("a"), amount)]),
            ..Used::default()
        }
    }

    #[test]
    fn nodes_and_pods_as_metrics_servers_show_them() {
        let node = node(
            &json!({"metadata": {"name": "n1", "labels": {"zone": "a"}, "uid": "u"}}),
            &used(),
            Timestamp::UNIX_EPOCH,
        );
        assert_eq!(
            node.unwrap(),
            json!({"kind": "NodeMetrics", "apiVersion": "metrics.k8s.io/v1beta1",
                "metadata": {"name": "n1", "labels": {"zone": "a"}, "creationTimestamp": "1970-01-01T00:00:00Z"},
                "timestamp": "1970-01-01T00:00:00Z", "window": "15.02s",
                "usage": {"cpu": "156340437n", "memory": "1016168Ki"}})
        );
        let runs = |name: &str| json!({"name": name, "state": {"running": {}}});
        let mut web = json!({"metadata": {"name": "web", "namespace": "ns"},
            "status": {"containerStatuses": [runs("a"), {"name": "b", "state": {"terminated": {}}}]}});
        let shown = pod(&web, &used(), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(shown["containers"][0]["usage"]["cpu"], "156340437n");
        assert_eq!(shown["containers"].as_array().unwrap().len(), 1);
        // Half of a pod would mislead whoever scales by it.
        web["status"]["containerStatuses"][1] = runs("b");
        assert_eq!(pod(&web, &used(), Timestamp::UNIX_EPOCH), None);
    }
}
