//! HorizontalPodAutoscaler (autoscaling/v2): as many pods as the load needs.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::quantity::Quantity;
use crate::selector;
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
    validate_status: status,
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
    reference(&spec.get("scaleTargetRef"), &mut errors);
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
    if kind.is_blank() {
        errors.push(kind.required("must specify a metric source type"));
    }
    if !sources.contains(&kind.text()) {
        errors.push(kind.not_supported(&sources));
        return;
    }
    let key = lower_first(kind.text());
    let source = metric.get(&key);
    if source.is_set() {
        self::source(&source, kind.text(), errors);
    } else {
        errors.push(source.required("must populate information for the given metric source"));
    }
    for other in sources.iter().filter(|other| **other != kind.text()) {
        let other = metric.get(&lower_first(other));
        if other.is_set() {
            errors.push(other.forbidden("must populate the given metric source only"));
        }
    }
}

/// Rules for where a number comes from, and for the number that is wanted.
fn source(source: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let wanted = source.get("target");
    if kind == "Object" {
        reference(&source.get("describedObject"), errors);
    }
    if kind.ends_with("Resource") {
        if source.get("name").is_blank() {
            errors.push(source.get("name").required("must specify a resource name"));
        }
        if kind == "ContainerResource" && source.get("container").is_blank() {
            errors.push(source.get("container").required("must specify a container"));
        }
    } else {
        let metric = source.get("metric");
        if metric.get("name").is_blank() {
            errors.push(metric.get("name").required("must specify a metric name"));
        }
        selector::validate(&metric.get("selector"), errors);
    }
    target(&wanted, errors);
    amounts(&wanted, kind, errors);
}

/// Which forms of the wanted number each source has.
fn amounts(wanted: &Field, kind: &str, errors: &mut Vec<FieldError>) {
    let [percent, average, value] =
        ["averageUtilization", "averageValue", "value"].map(|key| wanted.get(key));
    match kind {
        "Resource" | "ContainerResource" => match (percent.is_set(), average.is_set()) {
            (false, false) => {
                errors.push(percent.required("must set either a target raw value or a target utilization"));
            }
            (true, true) => {
                errors
                    .push(average.forbidden("may not set both a target raw value and a target utilization"));
            }
            _ => {}
        },
        "Pods" if !is_positive(&average) => {
            errors.push(average.required("must specify a positive target averageValue"));
        }
        "Object" if !value.is_set() && !average.is_set() => {
            errors.push(average.required("must set either a target value or averageValue"));
        }
        "External" => match (value.is_set(), average.is_set()) {
            (false, false) => {
                let why = "must set either a target value for metric or a per-pod target";
                errors.push(average.required(why));
            }
            (true, true) => {
                let why = "may not set both a target value for metric and a per-pod target";
                errors.push(value.forbidden(why));
            }
            _ => {}
        },
        _ => {}
    }
}

fn is_positive(amount: &Field) -> bool {
    Quantity::from_json(amount.value).is_ok_and(|q| q > Quantity::ZERO)
}

fn target(target: &Field, errors: &mut Vec<FieldError>) {
    let kind = target.get("type");
    if kind.is_blank() {
        errors.push(kind.required("must specify a metric target type"));
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind.text()) {
        errors.push(kind.invalid("must be either Utilization, Value, or AverageValue"));
    }
    for key in ["value", "averageValue"] {
        let amount = target.get(key);
        if amount.is_set() && !is_positive(&amount) {
            errors.push(amount.invalid("must be positive"));
        }
    }
    let percent = target.get("averageUtilization");
    if percent.int().is_some_and(|n| n < 1) {
        errors.push(percent.invalid("must be greater than 0"));
    }
}

fn reference(at: &Field, errors: &mut Vec<FieldError>) {
    for key in ["kind", "name"] {
        let field = at.get(key);
        if field.needed(errors) {
            errors.extend(field.invalid_each(names::path_segment(field.text(), false)));
        }
    }
}

fn behaviour(rules: &Field, errors: &mut Vec<FieldError>) {
    if !rules.is_set() {
        return;
    }
    let window = rules.get("stabilizationWindowSeconds");
    if window.int().is_some_and(|n| n < 0) {
        errors.push(window.invalid("must be greater than or equal to zero"));
    }
    if window.int().is_some_and(|n| n > 3600) {
        errors.push(window.invalid("must be less than or equal to 3600"));
    }
    rules
        .get("selectPolicy")
        .one_of_if_set(&["Disabled", "Max", "Min"], errors);
    if rules.get("policies").is_blank() {
        errors.push(rules.get("policies").required("must specify at least one Policy"));
    }
    for policy in rules.items("policies") {
        let kind = policy.get("type");
        if !["Percent", "Pods"].contains(&kind.text()) {
            errors.push(kind.not_supported(&["Percent", "Pods"]));
        }
        for (key, max) in [("value", i64::MAX), ("periodSeconds", 1800)] {
            let number = policy.get(key);
            let n = number.int().unwrap_or(0);
            if n <= 0 {
                errors.push(FieldError::invalid(&number.path, n, "must be greater than zero"));
            } else if n > max {
                errors.push(number.invalid(format!("must be less than or equal to {max}")));
            }
        }
    }
}

/// The numbers of a status are not negative.
fn status(new: &Value, _old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let status = Field::at(new, "status");
    status.get("currentReplicas").non_negative(&mut errors);
    status.get("desiredReplicas").non_negative(&mut errors);
    errors
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
