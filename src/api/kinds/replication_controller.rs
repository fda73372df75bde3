//! ReplicationController: keeps a number of like pods; what came before ReplicaSet.

use serde_json::Value;

use super::{cells, pod, workload};
use crate::kind::{Dependents, Kind, Subresource};
use crate::status::FieldError;
use crate::value::{Field, fill, get, get_mut, has, int, set};

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "ReplicationController",
    plural: "replicationcontrollers",
    singular: "replicationcontroller",
    short_names: &["rc"],
    categories: &["all"],
    subresources: &[Subresource::scale(), Subresource::status("ReplicationController")],
    storage_version_hash: "Jond2If31h0=",
    dependents: Dependents::Kept(""),
    default,
    validate,
    validate_update: |new, _| validate(new),
    validate_status: workload::validate_replicas,
    warnings: workload::warnings,
    field_names: &["status.replicas"],
    fields: |controller| {
        let replicas = int(controller, "status.replicas").unwrap_or(0);
        vec![("status.replicas", replicas.to_string())]
    },
    columns: workload::REPLICAS_COLUMNS,
    row: |set, now| workload::replicas_row(set, cells::labels(get(set, "spec.selector")), now),
    ..Kind::WITH_STATUS
};

/// The template's labels are selected, and the controller's own, unless said otherwise.
fn default(controller: &mut Value) {
    let labels = get(controller, "spec.template.metadata.labels").clone();
    if let Some(spec) = get_mut(controller, "spec") {
        pod::default_template(spec);
        fill(spec, "replicas", 1);
        if Field::at(spec, "selector").is_blank() && labels.is_object() {
            set(spec, "selector", labels.clone());
        }
    }
    if labels.is_object()
        && !has(controller, "metadata.labels")
        && let Some(metadata) = get_mut(controller, "metadata")
    {
        set(metadata, "labels", labels);
    }
}

fn validate(controller: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(controller, "spec");
    spec.get("minReadySeconds").non_negative(&mut errors);
    let selector = spec.get("selector");
    selector.needed(&mut errors);
    spec.get("replicas").non_negative(&mut errors);
    if !spec.get("template").is_set() {
        errors.push(spec.get("template").required(""));
        return errors;
    }
    let labels = spec.get("template.metadata.labels");
    let matches = |(key, value): (&String, &Value)| labels.value.get(key) == Some(value);
    if !selector.is_blank() && !selector.value.as_object().into_iter().flatten().all(matches) {
        errors.push(workload::not_selected(&labels));
    }
    pod::validate_template(&spec.get("template"), &mut errors);
    workload::always_running(&spec, "ReplicationController", &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_selector_follows_the_template() {
        let template = json!({"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        let mut controller = json!({"metadata": {"name": "x"}, "spec": {"template": template}});
        default(&mut controller);
        assert_eq!(controller["spec"]["selector"], json!({"a": "b"}));
        assert_eq!(controller["metadata"]["labels"], json!({"a": "b"}));
        let said: Vec<String> = validate(&controller).iter().map(ToString::to_string).collect();
        assert!(!said.iter().any(|text| text.contains("selector")), "{said:?}");
        controller["spec"]["selector"] = json!({"a": "c"});
        assert!(
            validate(&controller)[0]
                .to_string()
                .ends_with("`selector` does not match template `labels`")
        );
    }
}
