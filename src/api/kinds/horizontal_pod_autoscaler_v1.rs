//! HorizontalPodAutoscaler (autoscaling/v1): the same objects as autoscaling/v2, in the older form. What that
//! form has no fields for travels in annotations, as Kubernetes' own conversion has it.

use serde_json::{Map, Value, json};

use super::horizontal_pod_autoscaler as v2;
use crate::kind::{Kind, Storage, Subresource};
use crate::object;
use crate::value::{Field, fill, get, get_mut, has, int, list, remove, set, text};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// The descriptor.
pub static KIND: Kind = Kind {
    version: "v1",
    subresources: &[Subresource::status("HorizontalPodAutoscaler")],
    storage: Some(Storage {
        group: "autoscaling",
        version: "v2",
        to_stored,
        to_served,
    }),
    default: |scaler| {
        if let Some(spec) = get_mut(scaler, "spec") {
            fill(spec, "minReplicas", 1);
        }
    },
    validate: |scaler| (v2::KIND.validate)(&stored(scaler)),
    validate_update: |new, old| (v2::KIND.validate_update)(&stored(new), &stored(old)),
    row: |scaler, now| (v2::KIND.row)(&stored(scaler), now),
    ..v2::BASE
};

fn stored(scaler: &Value) -> Value {
    let mut out = scaler.clone();
    to_stored(&mut out);
    out
}

fn utilisation(percent: i64) -> Value {
    json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": percent}}})
}

/// Whether a metric is the one that the older form has a field for.
fn is_cpu(metric: &Value, percent: &str) -> bool {
    text(metric, "type") == "Resource" && text(metric, "resource.name") == "cpu" && has(metric, percent)
}

fn to_stored(scaler: &mut Value) {
    let kept = take_annotations(scaler);
    set(scaler, "apiVersion", "autoscaling/v2");
    if let Some(spec) = get_mut(scaler, "spec") {
        let percent = int(spec, "targetCPUUtilizationPercentage");
        remove(spec, "targetCPUUtilizationPercentage");
        let mut metrics = kept
            .get(METRICS)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if let Some(percent) = percent {
            metrics.insert(0, utilisation(percent));
        }
        if metrics.is_empty() {
            metrics.push(utilisation(80));
        }
        set(spec, "metrics", metrics);
        if let Some(behavior) = kept.get(BEHAVIOR) {
            set(spec, "behavior", behavior.clone());
        }
    }
    if let Some(status) = get_mut(scaler, "status") {
        let percent = int(status, "currentCPUUtilizationPercentage");
        remove(status, "currentCPUUtilizationPercentage");
        let mut current = kept
            .get(CURRENT)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default();
        if let Some(percent) = percent {
            let cpu = json!({"name": "cpu", "current": {"averageUtilization": percent}});
            current.insert(0, json!({"type": "Resource", "resource": cpu}));
        }
        if !current.is_empty() {
            set(status, "currentMetrics", current);
        }
        if let Some(conditions) = kept.get(CONDITIONS) {
            set(status, "conditions", conditions.clone());
        }
    }
}

fn to_served(scaler: &mut Value) {
    let mut kept = Map::new();
    set(scaler, "apiVersion", "autoscaling/v1");
    if let Some(spec) = get_mut(scaler, "spec") {
        let (percent, others) = split(spec, "metrics", "resource.target.averageUtilization");
        if let Some(percent) = percent {
            set(spec, "targetCPUUtilizationPercentage", percent);
        }
        keep(&mut kept, METRICS, others);
        keep(&mut kept, BEHAVIOR, get(spec, "behavior").clone());
        remove(spec, "behavior");
    }
    if let Some(status) = get_mut(scaler, "status") {
        let (percent, others) = split(status, "currentMetrics", "resource.current.averageUtilization");
        if let Some(percent) = percent {
            set(status, "currentCPUUtilizationPercentage", percent);
        }
        keep(&mut kept, CURRENT, others);
        keep(&mut kept, CONDITIONS, get(status, "conditions").clone());
        remove(status, "conditions");
    }
    for (key, value) in kept {
        object::set_annotation(scaler, &key, value.to_string());
    }
}

/// Takes the metrics at `key` apart: the first percentage of CPU, and the others.
fn split(holder: &mut Value, key: &str, percent: &str) -> (Option<i64>, Value) {
    let all = list(holder, key).to_vec();
    remove(holder, key);
    let mut found = None;
    let mut others = Vec::new();
    for metric in all {
        if found.is_none() && is_cpu(&metric, percent) {
            found = int(&metric, percent);
        } else {
            others.push(metric);
        }
    }
    (found, Value::Array(others))
}

fn keep(kept: &mut Map<String, Value>, key: &str, value: Value) {
    if !Field::new(&value, "").is_blank() {
        kept.insert(key.to_owned(), value);
    }
}

/// Takes what the annotations hold for the newer form.
fn take_annotations(scaler: &mut Value) -> Map<String, Value> {
    let mut kept = Map::new();
    let Some(metadata) = get_mut(scaler, "metadata") else {
        return kept;
    };
    if let Some(annotations) = get_mut(metadata, "annotations").and_then(Value::as_object_mut) {
        for key in [METRICS, CURRENT, CONDITIONS, BEHAVIOR] {
            if let Some(Value::String(text)) = annotations.remove(key)
                && let Ok(value) = serde_json::from_str(&text)
            {
                kept.insert(key.to_owned(), value);
            }
        }
    }
    if Field::at(metadata, "annotations").is_blank() {
        remove(metadata, "annotations");
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let old = json!({"apiVersion": "autoscaling/v1", "metadata": {"name": "a"},
            "spec": {"maxReplicas": 3, "targetCPUUtilizationPercentage": 60,
                "scaleTargetRef": {"kind": "Deployment", "name": "d"}},
            "status": {"currentReplicas": 1, "currentCPUUtilizationPercentage": 20}});
        let mut new = old.clone();
        to_stored(&mut new);
        assert_eq!(new["spec"]["metrics"], json!([utilisation(60)]));
        new["spec"]["metrics"]
            .as_array_mut()
            .unwrap()
            .push(json!({"type": "Pods", "pods": {"metric": {"name": "rps"}}}));
        new["status"]["conditions"] = json!([{"type": "AbleToScale", "status": "True"}]);
        let mut back = new.clone();
        to_served(&mut back);
        assert_eq!(back["spec"]["targetCPUUtilizationPercentage"], 60);
        assert!(object::annotation(&back, METRICS).unwrap().contains("rps"));
        let mut again = back;
        to_stored(&mut again);
        assert_eq!(again, new);
    }
}
