//! StatefulSet: like pods, each with a name and storage of its own.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, persistent_volume_claim, workload};
use crate::kind::{Column, Kind, Subresource};
use crate::status::FieldError;
use crate::value::{Field, each, fill, fill_text, get, get_mut, int, remove, same};

/// What may change in a spec.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("StatefulSet")],
    storage_version_hash: "H+vl74LkKdo=",
    default,
    validate,
    validate_update,
    validate_status: |new, old| {
        let mut errors = Vec::new();
        let parts = [
            "readyReplicas",
            "currentReplicas",
            "updatedReplicas",
            "availableReplicas",
        ];
        workload::status_counts(new, &parts, &mut errors);
        workload::collision_count(new, old, &mut errors);
        errors
    },
    columns: &[
        Column::NAME,
        Column::text("Ready"),
        Column::AGE,
        Column::text("Containers").wide(),
        Column::text("Images").wide(),
    ],
    row,
    ..Kind::WITH_STATUS
};

fn default(set: &mut Value) {
    workload::default_template(set);
    let Some(spec) = get_mut(set, "spec") else { return };
    fill_text(spec, "podManagementPolicy", "OrderedReady");
    workload::default_strategy(spec, "updateStrategy", &[("partition", 0.into())]);
    fill(spec, "replicas", 1);
    fill(spec, "revisionHistoryLimit", 10);
    fill(spec, "persistentVolumeClaimRetentionPolicy", json!({}));
    if let Some(policy) = get_mut(spec, "persistentVolumeClaimRetentionPolicy") {
        fill_text(policy, "whenDeleted", "Retain");
        fill_text(policy, "whenScaled", "Retain");
    }
    each(spec, "volumeClaimTemplates", persistent_volume_claim::default);
}

fn validate(set: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(set, "spec");
    spec.get("podManagementPolicy")
        .one_of(&["OrderedReady", "Parallel"], &mut errors);
    let strategy = spec.get("updateStrategy");
    strategy
        .get("type")
        .one_of(&["OnDelete", "RollingUpdate"], &mut errors);
    let rolling = strategy.get("rollingUpdate");
    if strategy.get("type").text() == "OnDelete" && rolling.is_set() {
        errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
    }
    rolling.get("partition").non_negative(&mut errors);
    for key in ["replicas", "minReadySeconds", "ordinals.start"] {
        spec.get(key).non_negative(&mut errors);
    }
    workload::selector_and_template(&spec, &mut errors);
    workload::always_running(&spec, &mut errors);
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    let fixed = |set: &Value| {
        let mut spec = get(set, "spec").clone();
        CHANGEABLE.iter().for_each(|key| remove(&mut spec, key));
        spec
    };
    if !same(&fixed(new), &fixed(old)) {
        errors.push(FieldError::forbidden(
            "spec",
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', \
             'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        ));
    }
    errors
}

fn row(set: &Value, now: Timestamp) -> Vec<Value> {
    let count = |path: &str| int(set, path).unwrap_or(0);
    let [containers, images, _] = workload::wide_cells(set);
    vec![
        cells::name(set),
        json!(format!(
            "{}/{}",
            count("status.readyReplicas"),
            count("spec.replicas")
        )),
        cells::age(set, now),
        containers,
        images,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_of_the_spec_changes() {
        let mut old = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {"serviceName": "s",
            "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "a"}]}}, "volumeClaimTemplates": [{"spec": {}}]}});
        (KIND.default)(&mut old);
        assert!(KIND.check_create(&old).is_empty());
        assert_eq!(
            old["spec"]["volumeClaimTemplates"][0]["spec"]["volumeMode"],
            "Filesystem"
        );
        let mut new = old.clone();
        new["spec"]["replicas"] = json!(3);
        assert!(validate_update(&new, &old).is_empty());
        new["spec"]["serviceName"] = json!("t");
        assert!(
            validate_update(&new, &old)[0]
                .to_string()
                .starts_with("spec: Forbidden: updates to statefulset spec")
        );
    }
}
