//! StatefulSet: like pods, each with a name and storage of its own.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata, persistent_volume_claim, warnings, workload};
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
    warnings: warnings_of,
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
    let management = spec.get("podManagementPolicy");
    if management.needed(&mut errors) && !["OrderedReady", "Parallel"].contains(&management.text()) {
        errors.push(management.invalid("must be 'OrderedReady' or 'Parallel'"));
    }
    strategy(&spec.get("updateStrategy"), &mut errors);
    for key in ["whenDeleted", "whenScaled"] {
        spec.get("persistentVolumeClaimRetentionPolicy")
            .get(key)
            .one_of_if_set(&["Retain", "Delete"], &mut errors);
    }
    for key in ["replicas", "minReadySeconds", "ordinals.start"] {
        spec.get(key).non_negative(&mut errors);
    }
    workload::selector(&spec, "empty selector is invalid for statefulset", &mut errors);
    workload::selected(&spec, &mut errors);
    // The pod's own rules wait for the pod: its mounts may name claims that are not in the template.
    let template = spec.get("template");
    let at = |key: &str| {
        Field::new(
            get(template.value, "metadata").get(key).unwrap_or(&Value::Null),
            template.path_of(key),
        )
    };
    metadata::labels(&at("labels"), &mut errors);
    metadata::annotations(&at("annotations"), &mut errors);
    workload::always_running(&spec, "StatefulSet", &mut errors);
    errors
}

fn warnings_of(new: &Value, old: Option<&Value>) -> Vec<String> {
    let mut said = workload::template_warnings(new, old);
    // The paths are Kubernetes', which differ by a field that there is not.
    let spec = if old.is_some() { ".Spec" } else { "" };
    for claim in Field::at(new, "spec").items("volumeClaimTemplates") {
        let at = Field::new(get(claim.value, "spec"), format!("{}{spec}", claim.path));
        warnings::claim_spec(&at, &mut said);
    }
    if int(new, "spec.revisionHistoryLimit").is_some_and(|n| n < 0) {
        let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
        said.push(format!("spec.revisionHistoryLimit: {why}"));
    }
    said
}

fn strategy(strategy: &Field, errors: &mut Vec<FieldError>) {
    let rolling = strategy.get("rollingUpdate");
    match strategy.get("type").text() {
        "" => errors.push(strategy.required("")),
        "OnDelete" if rolling.is_set() => {
            errors.push(rolling.invalid("only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            rolling.get("partition").non_negative(errors);
            let unavailable = rolling.get("maxUnavailable");
            workload::validate_int_or_percent(&unavailable, errors);
            if matches!(workload::int_or_percent(unavailable.value), Some((0, _))) {
                errors.push(unavailable.invalid("cannot be 0"));
            }
            workload::at_most_100_percent(&unavailable, errors);
        }
        _ => errors.push(FieldError::invalid(
            &strategy.path,
            workload::unknown_strategy(strategy),
            "must be 'RollingUpdate' or 'OnDelete'",
        )),
    }
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
