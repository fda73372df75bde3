//! HorizontalPodAutoscaler (autoscaling/v2): as many pods as the load needs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::status::FieldError;
use crate::value::{Field, fill, get, get_mut, has, int, list, text};

/// The descriptor.
pub static KIND: Kind = BASE;

/// What both versions have in common.
pub const BASE: Kind = Kind {
    group: "autoscaling",
    version: "v2",
    kind: "HorizontalPodAutoscaler",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[Subresource::status("HorizontalPodAutoscaler")],
    storage_version_hash: "qwQve8ut294=",
    default,
    prepare_create: |scaler| crate::value::remove(scaler, "status"),
    prepare_update: |new, old| crate::value::keep(new, old, "status"),
    validate,
    validate_update: |new, _| validate(new),
    columns: &[
        Column::NAME,
        Column::text("Reference"),
        Column::text("Targets"),
        Column::text("MinPods"),
        Column::text("MaxPods"),
        Column::text("Replicas"),
        Column::AGE,
    ],
    row,
    ..Kind::WITH_STATUS
};

fn default(scaler: &mut Value) {
    let Some(spec) = get_mut(scaler, "spec") else {
        return;
    };
    fill(spec, "minReplicas", 1);
    if list(spec, "metrics").is_empty() {
        let cpu = json!({"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}});
        crate::value::set(spec, "metrics", json!([{"type": "Resource", "resource": cpu}]));
    }
    if let Some(behavior) = get_mut(spec, "behavior") {
        default_rules(behavior, "scaleUp", &[("Pods", 4), ("Percent", 100)]);
        default_rules(behavior, "scaleDown", &[("Percent", 100)]);
        if let Some(up) = get_mut(behavior, "scaleUp") {
            fill(up, "stabilizationWindowSeconds", 0);
        }
    }
}

/// Speed limits of one direction, each for 15 seconds, of which the largest counts.
fn default_rules(behavior: &mut Value, direction: &str, policies: &[(&str, i64)]) {
    fill(behavior, direction, json!({}));
    let Some(rules) = get_mut(behavior, direction) else {
        return;
    };
    fill(rules, "selectPolicy", "Max");
    if list(rules, "policies").is_empty() {
        let policy = |(kind, value): &(&str, i64)| json!({"type": kind, "value": value, "periodSeconds": 15});
        let policies: Vec<Value> = policies.iter().map(policy).collect();
        crate::value::set(rules, "policies", policies);
    }
}

fn validate(scaler: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(scaler, "spec");
    let (min, max) = (spec.get("minReplicas"), spec.get("maxReplicas"));
    if min.int().is_some_and(|n| n < 1) {
        errors.push(min.invalid("must be greater than or equal to 1"));
    }
    if max.int().unwrap_or(0) < 1 {
        errors.push(FieldError::invalid(
            &max.path,
            max.int().unwrap_or(0),
            "must be greater than 0",
        ));
    }
    if min.int().is_some_and(|n| n > max.int().unwrap_or(0)) {
        errors.push(max.invalid("must be greater than or equal to `minReplicas`"));
    }
    for key in ["kind", "name"] {
        spec.get("scaleTargetRef").get(key).needed(&mut errors);
    }
    for metric in spec.items("metrics") {
        self::metric(&metric, &mut errors);
    }
    for direction in ["scaleUp", "scaleDown"] {
        behaviour(&spec.get("behavior").get(direction), &mut errors);
    }
    errors
}

fn metric(metric: &Field, errors: &mut Vec<FieldError>) {
    let kind = metric.get("type");
    let sources = ["ContainerResource", "External", "Object", "Pods", "Resource"];
    kind.one_of(&sources, errors);
    if !sources.contains(&kind.text()) {
        return;
    }
    let source = metric.get(&lower_first(kind.text()));
    if !source.is_set() {
        errors.push(source.required("must populate information for the given metric source"));
        return;
    }
    for other in sources.iter().filter(|other| **other != kind.text()) {
        let other = metric.get(&lower_first(other));
        if other.is_set() {
            errors.push(other.forbidden("must populate the given metric source only"));
        }
    }
    let name = if source.value.get("metric").is_some() {
        "metric.name"
    } else {
        "name"
    };
    if source.get(name).is_blank() {
        errors.push(source.get(name).required("must specify a metric name"));
    }
    target(&source.get("target"), errors);
}

fn target(target: &Field, errors: &mut Vec<FieldError>) {
    let kind = target.get("type");
    if kind.is_blank() {
        errors.push(kind.required("must specify a metric target type"));
    }
    kind.one_of_if_set(&["Utilization", "Value", "AverageValue"], errors);
    let percent = target.get("averageUtilization");
    if percent.int().is_some_and(|n| n < 1) {
        errors.push(percent.invalid("must be greater than 0"));
    }
    let set = |key: &str| target.get(key).is_set();
    if !set("averageUtilization") && !set("averageValue") && !set("value") {
        errors.push(
            target
                .get("averageUtilization")
                .required("must set either a target raw value or a target utilization"),
        );
    }
}

fn behaviour(rules: &Field, errors: &mut Vec<FieldError>) {
    let window = rules.get("stabilizationWindowSeconds");
    window.non_negative(errors);
    if window.int().is_some_and(|n| n > 3600) {
        errors.push(window.invalid("must be less than or equal to 3600"));
    }
    rules
        .get("selectPolicy")
        .one_of_if_set(&["Disabled", "Max", "Min"], errors);
    for policy in rules.items("policies") {
        policy.get("type").one_of(&["Percent", "Pods"], errors);
        for (key, max) in [("value", i64::MAX), ("periodSeconds", 1800)] {
            let number = policy.get(key);
            if number.int().unwrap_or(0) <= 0 {
                errors.push(number.invalid("must be greater than zero"));
            } else if number.int().is_some_and(|n| n > max) {
                errors.push(number.invalid(format!("must be less than or equal to {max}")));
            }
        }
    }
}

fn row(scaler: &Value, now: Timestamp) -> Vec<Value> {
    let reference = format!(
        "{}/{}",
        text(scaler, "spec.scaleTargetRef.kind"),
        text(scaler, "spec.scaleTargetRef.name")
    );
    let min = int(scaler, "spec.minReplicas").map_or("<unset>".to_owned(), |n| n.to_string());
    let count = |path: &str| json!(int(scaler, path).unwrap_or(0));
    vec![
        cells::name(scaler),
        json!(reference),
        json!(targets(scaler)),
        json!(min),
        count("spec.maxReplicas"),
        count("status.currentReplicas"),
        cells::age(scaler, now),
    ]
}

/// Current and wanted value of each metric, such as `cpu: 12%/80%`.
fn targets(scaler: &Value) -> String {
    let current = list(scaler, "status.currentMetrics");
    let shown: Vec<String> = list(scaler, "spec.metrics")
        .iter()
        .enumerate()
        .map(|(i, metric)| {
            let source = lower_first(text(metric, "type"));
            let spec = get(metric, &source);
            let now = current
                .get(i)
                .map_or(&Value::Null, |m| get(get(m, &source), "current"));
            let name = match text(spec, "name") {
                "" => text(spec, "metric.name"),
                name => name,
            };
            format!(
                "{name}: {}/{}",
                amount(now).unwrap_or("<unknown>".to_owned()),
                amount(get(spec, "target")).unwrap_or_default()
            )
        })
        .collect();
    cells::or_none(shown.join(", "))
}

fn amount(value: &Value) -> Option<String> {
    if has(value, "averageUtilization") {
        return Some(format!("{}%", int(value, "averageUtilization")?));
    }
    let average = text(value, "averageValue");
    let plain = text(value, "value");
    [average, plain]
        .into_iter()
        .find(|s| !s.is_empty())
        .map(str::to_owned)
}

fn lower_first(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |c| {
        c.to_ascii_lowercase().to_string() + chars.as_str()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eighty_percent_of_cpu_unless_said_otherwise() {
        let mut scaler = json!({"metadata": {"name": "a", "namespace": "n"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
        (KIND.default)(&mut scaler);
        assert!(KIND.check_create(&scaler).is_empty());
        assert_eq!(
            row(&scaler, Timestamp::UNIX_EPOCH)[1..6],
            [
                json!("Deployment/web"),
                json!("cpu: <unknown>/80%"),
                json!("1"),
                json!(3),
                json!(0)
            ]
        );
        scaler["spec"]["minReplicas"] = json!(4);
        assert_eq!(
            validate(&scaler)[0].to_string(),
            "spec.maxReplicas: Invalid value: 3: must be greater than or equal to `minReplicas`"
        );
    }
}
