//! DaemonSet: a pod on every node.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, pod, workload};
use crate::kind::{Column, Kind, Subresource};
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, fill, get, get_mut, int};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "DaemonSet",
    plural: "daemonsets",
    singular: "daemonset",
    short_names: &["ds"],
    categories: &["all"],
    subresources: &[Subresource::status("DaemonSet")],
    storage_version_hash: "dd7pWHUlMKQ=",
    default,
    validate,
    validate_update: |new, old| workload::with_same_selector(validate(new), new, old),
    validate_status: |new, old| {
        let mut errors = Vec::new();
        let status = Field::at(new, "status");
        for key in [
            "currentNumberScheduled",
            "numberMisscheduled",
            "desiredNumberScheduled",
            "numberReady",
        ] {
            status.get(key).non_negative(&mut errors);
        }
        workload::collision_count(new, old, &mut errors);
        errors
    },
    warnings: workload::template_warnings,
    columns: &[
        Column::NAME,
        Column::integer("Desired"),
        Column::integer("Current"),
        Column::integer("Ready"),
        Column::integer("Up-to-date"),
        Column::integer("Available"),
        Column::text("Node Selector"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    row,
    ..Kind::WITH_STATUS
};

fn default(set: &mut Value) {
    workload::default_template(set);
    let Some(spec) = get_mut(set, "spec") else { return };
    workload::default_strategy(
        spec,
        "updateStrategy",
        &[("maxUnavailable", 1.into()), ("maxSurge", 0.into())],
    );
    fill(spec, "revisionHistoryLimit", 10);
}

fn validate(set: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(set, "spec");
    let selector = spec.get("selector");
    selector::validate(&selector, &mut errors);
    if selector.is_set() {
        workload::selected(&spec, &mut errors);
    } else {
        errors.push(workload::not_selected(&spec.get("template.metadata.labels")));
    }
    if selector.is_set() && selector::is_empty(selector.value) {
        errors.push(selector.invalid("empty selector is invalid for daemonset"));
    }
    pod::validate_template(&spec.get("template"), &mut errors);
    workload::always_running(&spec, "DaemonSet", &mut errors);
    spec.get("minReadySeconds").non_negative(&mut errors);
    strategy(&spec.get("updateStrategy"), &mut errors);
    spec.get("revisionHistoryLimit").non_negative(&mut errors);
    errors
}

fn strategy(strategy: &Field, errors: &mut Vec<FieldError>) {
    match strategy.get("type").text() {
        "OnDelete" => {}
        "RollingUpdate" if strategy.get("rollingUpdate").needed(errors) => {
            rolling_update(&strategy.get("rollingUpdate"), errors);
        }
        "RollingUpdate" => {}
        _ => errors.push(FieldError::not_supported(
            &strategy.path,
            workload::unknown_strategy(strategy),
            &["RollingUpdate", "OnDelete"],
        )),
    }
}

fn rolling_update(rolling: &Field, errors: &mut Vec<FieldError>) {
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    for field in [&unavailable, &surge] {
        workload::validate_int_or_percent(field, errors);
        workload::at_most_100_percent(field, errors);
    }
    let zero = |field: &Field| matches!(workload::int_or_percent(field.value), None | Some((0, _)));
    match (zero(&unavailable), zero(&surge)) {
        (true, true) => errors.push(unavailable.required("cannot be 0 when maxSurge is 0")),
        (false, false) => errors.push(surge.invalid("may not be set when maxUnavailable is non-zero")),
        _ => {}
    }
}

fn row(set: &Value, now: Timestamp) -> Vec<Value> {
    let count = |key: &str| json!(int(get(set, "status"), key).unwrap_or(0));
    let [containers, images, selector] = workload::wide_cells(set);
    vec![
        cells::name(set),
        count("desiredNumberScheduled"),
        count("currentNumberScheduled"),
        count("numberReady"),
        count("updatedNumberScheduled"),
        count("numberAvailable"),
        json!(cells::labels(get(set, "spec.template.spec.nodeSelector"))),
        cells::age(set, now),
        containers,
        images,
        selector,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_node_at_a_time() {
        let mut set = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "a"}]}}}});
        (KIND.default)(&mut set);
        assert_eq!(
            set["spec"]["updateStrategy"]["rollingUpdate"],
            json!({"maxUnavailable": 1, "maxSurge": 0})
        );
        assert!(KIND.check_create(&set).is_empty());
        set["spec"]["updateStrategy"]["rollingUpdate"]["maxSurge"] = json!(1);
        assert!(
            validate(&set)[0]
                .to_string()
                .ends_with("may not be set when maxUnavailable is non-zero")
        );
    }
}
