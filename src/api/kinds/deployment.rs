//! Deployment: keeps a number of like pods, and replaces them gradually.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata, workload};
use crate::kind::{Column, Kind, Subresource};
use crate::status::FieldError;
use crate::value::{Field, fill, get, get_mut, int, keep, same};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "Deployment",
    plural: "deployments",
    singular: "deployment",
    short_names: &["deploy"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("Deployment")],
    storage_version_hash: "8aSe+NMegvE=",
    default,
    prepare_update,
    prepare_status: |new, old| {
        metadata::update_status(new, old);
        keep(new, old, "metadata.labels");
    },
    validate,
    validate_update: |new, old| workload::with_same_selector(validate(new), new, old),
    validate_status,
    warnings: workload::warnings,
    reset_fields_status: &["metadata.labels", "spec"],
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::text("Up-to-date"),
        Column::text("Available"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
        Column::text("Selector").wide(),
    ],
    row,
    ..Kind::WITH_STATUS
};

fn default(deployment: &mut Value) {
    workload::default_template(deployment);
    let Some(spec) = get_mut(deployment, "spec") else {
        return;
    };
    fill(spec, "replicas", 1);
    workload::default_strategy(
        spec,
        "strategy",
        &[("maxUnavailable", "25%".into()), ("maxSurge", "25%".into())],
    );
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "progressDeadlineSeconds", 600);
}

/// A Deployment's annotations are copied to its ReplicaSets, so a change of them counts as well.
fn prepare_update(new: &mut Value, old: &Value) {
    keep(new, old, "status");
    let changed = ["spec", "metadata.annotations"]
        .iter()
        .any(|path| !same(get(new, path), get(old, path)));
    metadata::bump_generation(new, old, changed);
}

fn validate(deployment: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(deployment, "spec");
    spec.get("replicas").non_negative(&mut errors);
    workload::selector_and_template(&spec, "empty selector is invalid for deployment", &mut errors);
    workload::always_running(&spec, "ReplicaSet", &mut errors);
    strategy(&spec.get("strategy"), &mut errors);
    for key in [
        "minReadySeconds",
        "revisionHistoryLimit",
        "progressDeadlineSeconds",
    ] {
        spec.get(key).non_negative(&mut errors);
    }
    let deadline = spec.get("progressDeadlineSeconds");
    if deadline
        .int()
        .is_some_and(|n| n <= spec.get("minReadySeconds").int().unwrap_or(0))
    {
        errors.push(deadline.invalid("must be greater than minReadySeconds"));
    }
    errors
}

fn strategy(strategy: &Field, errors: &mut Vec<FieldError>) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "Recreate" if rolling.is_set() => {
            errors.push(rolling.forbidden("may not be specified when strategy `type` is 'Recreate'"));
        }
        "Recreate" => {}
        "RollingUpdate" => rolling_update(&rolling, errors),
        _ => errors.push(FieldError::not_supported(
            &strategy.path,
            workload::unknown_strategy(strategy),
            &["Recreate", "RollingUpdate"],
        )),
    }
}

fn rolling_update(rolling: &Field, errors: &mut Vec<FieldError>) {
    if !rolling.is_set() {
        errors.push(rolling.required("this should be defaulted and never be nil"));
        return;
    }
    let (unavailable, surge) = (rolling.get("maxUnavailable"), rolling.get("maxSurge"));
    workload::validate_int_or_percent(&unavailable, errors);
    workload::validate_int_or_percent(&surge, errors);
    let zero = |field: &Field| matches!(workload::int_or_percent(field.value), Some((0, _)));
    if zero(&unavailable) && zero(&surge) {
        errors.push(unavailable.invalid("may not be 0 when `maxSurge` is 0"));
    }
    workload::at_most_100_percent(&unavailable, errors);
}

fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let parts = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    workload::status_counts(new, &parts, &mut errors);
    Field::at(new, "status.unavailableReplicas").non_negative(&mut errors);
    workload::collision_count(new, old, &mut errors);
    errors
}

fn row(deployment: &Value, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| int(deployment, path).unwrap_or(0);
    let [containers, images, selector] = workload::wide_cells(deployment);
    vec![
        cells::name(deployment),
        json!(format!(
            "{}/{}",
            count("status.readyReplicas"),
            count("spec.replicas")
        )),
        json!(count("status.updatedReplicas")),
        json!(count("status.availableReplicas")),
        cells::age(deployment, now),
        containers,
        images,
        selector,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment() -> Value {
        let mut object = json!({
            "metadata": {"name": "web", "namespace": "default"},
            "spec": {
                "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": "a:1"}]}},
            },
        });
        (KIND.default)(&mut object);
        (KIND.prepare_create)(&mut object);
        object
    }

    fn wrong(change: impl Fn(&mut Value)) -> Vec<String> {
        let mut object = deployment();
        change(&mut object);
        validate(&object).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn defaults_are_those_of_kubernetes() {
        let d = deployment();
        assert_eq!(d["spec"]["replicas"], 1);
        assert_eq!(
            d["spec"]["strategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
        );
        assert_eq!(d["spec"]["revisionHistoryLimit"], 10);
        assert_eq!(d["spec"]["progressDeadlineSeconds"], 600);
        assert_eq!(d["spec"]["template"]["spec"]["restartPolicy"], "Always");
        assert!(d["spec"]["template"]["spec"].get("enableServiceLinks").is_none());
        assert_eq!(d["metadata"]["generation"], 1);
        assert!(KIND.check_create(&d).is_empty());
    }

    #[test]
    fn what_is_wrong_with_a_deployment() {
        assert_eq!(
            wrong(|d| d["spec"]["replicas"] = json!(-1)),
            ["spec.replicas: Invalid value: -1: must be greater than or equal to 0"]
        );
        assert_eq!(
            wrong(|d| d["spec"]["selector"] = Value::Null),
            ["spec.selector: Required value"]
        );
        assert_eq!(
            wrong(|d| d["spec"]["selector"] = json!({})),
            ["spec.selector: Invalid value: {}: empty selector is invalid for deployment"]
        );
        assert_eq!(
            wrong(|d| d["spec"]["selector"]["matchLabels"]["app"] = json!("api")),
            [
                "spec.template.metadata.labels: Invalid value: {\"app\":\"web\"}: `selector` does not match template `labels`"
            ]
        );
        assert_eq!(
            wrong(|d| d["spec"]["template"]["spec"]["restartPolicy"] = json!("Never")),
            ["spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\""]
        );
        assert_eq!(
            wrong(|d| d["spec"]["strategy"]["rollingUpdate"] = json!({"maxUnavailable": 0, "maxSurge": 0})),
            [
                "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: 0: may not be 0 when `maxSurge` is 0"
            ]
        );
        assert_eq!(
            wrong(|d| d["spec"]["strategy"]["rollingUpdate"]["maxSurge"] = json!("x"))[0],
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string \
             followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
        );
        assert_eq!(
            wrong(|d| d["spec"]["template"]["spec"]["containers"] = json!([])),
            ["spec.template.spec.containers: Required value"]
        );
    }

    #[test]
    fn the_selector_stays() {
        let old = deployment();
        let mut new = old.clone();
        new["spec"]["selector"]["matchLabels"] = json!({"app": "x"});
        new["spec"]["template"]["metadata"]["labels"] = json!({"app": "x"});
        assert_eq!(
            (KIND.validate_update)(&new, &old)[0].to_string(),
            "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"x\"}}: field is immutable"
        );
    }

    #[test]
    fn generations_count_spec_and_annotations() {
        let old = deployment();
        let after = |change: fn(&mut Value)| {
            let mut new = old.clone();
            change(&mut new);
            (KIND.prepare_update)(&mut new, &old);
            new["metadata"]["generation"].as_i64().unwrap()
        };
        assert_eq!(after(|_| {}), 1);
        assert_eq!(after(|d| d["metadata"]["labels"] = json!({"a": "b"})), 1);
        assert_eq!(after(|d| d["metadata"]["annotations"] = json!({"a": "b"})), 2);
        assert_eq!(after(|d| d["spec"]["replicas"] = json!(3)), 2);
    }

    #[test]
    fn rows_are_those_of_kubectl() {
        let mut d = deployment();
        d["status"] = json!({"readyReplicas": 1, "updatedReplicas": 1, "availableReplicas": 1});
        let cells = row(&d, Timestamp::UNIX_EPOCH);
        assert_eq!(cells[1], "1/1");
        assert_eq!(cells[5..], ["c", "a:1", "app=web"]);
    }
}
