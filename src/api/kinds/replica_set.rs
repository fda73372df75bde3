//! ReplicaSet: keeps a number of like pods.

use serde_json::Value;

use super::workload;
use crate::kind::{Kind, Subresource};
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, fill, get, get_mut};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "ReplicaSet",
    plural: "replicasets",
    singular: "replicaset",
    short_names: &["rs"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("ReplicaSet")],
    storage_version_hash: "P1RzHs8/mWQ=",
    default: |set| {
        workload::default_template(set);
        if let Some(spec) = get_mut(set, "spec") {
            fill(spec, "replicas", 1);
        }
    },
    validate,
    validate_update: |new, old| workload::with_same_selector(validate(new), new, old),
    validate_status: workload::validate_replicas,
    warnings: workload::warnings,
    columns: workload::REPLICAS_COLUMNS,
    row: |set, now| workload::replicas_row(set, selector::format(get(set, "spec.selector")), now),
    ..Kind::WITH_STATUS
};

fn validate(set: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(set, "spec");
    spec.get("replicas").non_negative(&mut errors);
    spec.get("minReadySeconds").non_negative(&mut errors);
    workload::selector_and_template(&spec, "empty selector is invalid for deployment", &mut errors);
    workload::always_running(&spec, "ReplicaSet", &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn counts_agree() {
        let set = json!({"status": {"replicas": 1, "readyReplicas": 2, "availableReplicas": -1}});
        let texts: Vec<String> = workload::validate_replicas(&set, &set)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            texts,
            [
                "status.availableReplicas: Invalid value: -1: must be greater than or equal to 0",
                "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas"
            ]
        );
    }

    #[test]
    fn one_pod_unless_said_otherwise() {
        let mut set = json!({"metadata": {"name": "a", "namespace": "b"}, "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "a"}]}}}});
        (KIND.default)(&mut set);
        assert_eq!(set["spec"]["replicas"], 1);
        assert!(KIND.check_create(&set).is_empty());
    }
}
