//! Namespace: the scope of names.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, metadata};
use crate::kind::{Column, Kind, Part, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill, get_mut, has, keep, list, object_mut, set, text};

/// The label that repeats a namespace's name, so that selectors can pick it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";
/// The finalizer that the namespace controller takes away once a namespace is empty.
const FINALIZER: &str = "kubernetes";

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        Subresource::new("finalize", "Namespace", &["update"]).view(Part {
            prepare: |new, old| keep(new, old, "status"),
            validate: |new, _| finalizers_left(new),
            reset_fields: &["status"],
        }),
        Subresource::status("Namespace"),
    ],
    storage_version_hash: "Q3oi5N2YM8M=",
    name_rule: names::label,
    default: name_label,
    prepare_create,
    prepare_update: |new, old| {
        keep(new, old, "status");
        keep(new, old, "spec");
    },
    prepare_status: |new, old| keep(new, old, "spec"),
    validate: finalizers,
    validate_status,
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    field_names: &["status.phase"],
    fields: |ns| vec![("status.phase", text(ns, "status.phase").to_owned())],
    columns: &[Column::NAME, Column::text("Status"), Column::AGE],
    row,
    ..Kind::CLUSTER
};

fn name_label(namespace: &mut Value) {
    let name = text(namespace, "metadata.name").to_owned();
    if !name.is_empty()
        && let Some(labels) = object_mut(namespace, "metadata.labels")
        && !labels.contains_key(NAME_LABEL)
    {
        labels.insert(NAME_LABEL.to_owned(), name.into());
    }
}

fn prepare_create(namespace: &mut Value) {
    // Again, for a name that was generated after defaulting.
    name_label(namespace);
    set(namespace, "status", json!({"phase": "Active"}));
    fill(namespace, "spec", json!({}));
    if let Some(spec) = get_mut(namespace, "spec") {
        let mut all = list(spec, "finalizers").to_vec();
        if !all.iter().any(|f| f == FINALIZER) {
            all.push(json!(FINALIZER));
        }
        set(spec, "finalizers", all);
    }
}

fn finalizers(namespace: &Value) -> Vec<FieldError> {
    let all = list(namespace, "spec.finalizers").iter();
    all.flat_map(|f| metadata::finalizer(&Field::new(f, "spec.finalizers")))
        .collect()
}

/// As on creation, but for a path that has the number of the finalizer.
fn finalizers_left(namespace: &Value) -> Vec<FieldError> {
    let all = Field::at(namespace, "spec").items("finalizers");
    all.iter().flat_map(metadata::finalizer).collect()
}

fn validate_status(new: &Value, _old: &Value) -> Vec<FieldError> {
    let phase = text(new, "status.phase");
    let (expected, why) = if has(new, "metadata.deletionTimestamp") {
        (
            "Terminating",
            "may only be 'Terminating' if `deletionTimestamp` is not empty",
        )
    } else {
        ("Active", "may only be 'Active' if `deletionTimestamp` is empty")
    };
    if phase == expected {
        Vec::new()
    } else {
        vec![FieldError::invalid("status.Phase", phase, why)]
    }
}

fn row(namespace: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        cells::name(namespace),
        json!(text(namespace, "status.phase")),
        cells::age(namespace, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_namespace_is_active_and_labelled() {
        let mut ns = json!({"metadata": {"name": "a"}});
        (KIND.default)(&mut ns);
        (KIND.prepare_create)(&mut ns);
        assert_eq!(ns["metadata"]["labels"][NAME_LABEL], "a");
        assert_eq!(ns["spec"]["finalizers"], json!(["kubernetes"]));
        assert_eq!(ns["status"]["phase"], "Active");
        assert!(KIND.check_create(&ns).is_empty());
    }

    #[test]
    fn only_finalize_changes_finalizers() {
        let old = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Terminating"}});
        let wanted = json!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Active"}});
        let (mut update, mut finalize) = (wanted.clone(), wanted);
        (KIND.prepare_update)(&mut update, &old);
        assert_eq!(update, old);
        (KIND.part("finalize").unwrap().prepare)(&mut finalize, &old);
        assert_eq!(finalize["spec"], json!({}));
        assert_eq!(finalize["status"], old["status"]);
    }

    #[test]
    fn phase_and_deletion_agree() {
        let ns = json!({"status": {"phase": "Terminating"}});
        assert_eq!(
            validate_status(&ns, &ns)[0].to_string(),
            "status.Phase: Invalid value: \"Terminating\": may only be 'Active' if `deletionTimestamp` is empty"
        );
    }
}
