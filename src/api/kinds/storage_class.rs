//! StorageClass: a sort of storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind};
use crate::status::FieldError;
use crate::value::{Field, fill_text, flag, get, same, text};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    storage_version_hash: "K+m6uJwbjGY=",
    default: |class| {
        fill_text(class, "reclaimPolicy", "Delete");
        fill_text(class, "volumeBindingMode", "Immediate");
    },
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::text("Provisioner"),
        Column::text("ReclaimPolicy"),
        Column::text("VolumeBindingMode"),
        Column::text("AllowVolumeExpansion"),
        Column::AGE,
    ],
    row,
    ..Kind::CLUSTER
};

fn validate(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::new(class, "");
    if root.get("provisioner").is_blank() {
        errors.push(root.get("provisioner").required(""));
    }
    root.get("reclaimPolicy")
        .one_of(&["Delete", "Retain"], &mut errors);
    root.get("volumeBindingMode")
        .one_of(&["Immediate", "WaitForFirstConsumer"], &mut errors);
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    for key in ["parameters", "provisioner", "reclaimPolicy"] {
        if !same(get(new, key), get(old, key)) {
            errors.push(FieldError::forbidden(
                key,
                format!("updates to {key} are forbidden."),
            ));
        }
    }
    Field::at(new, "volumeBindingMode").immutable(old, &mut errors);
    errors
}

fn row(class: &Value, now: Timestamp) -> Vec<Value> {
    let is_default = get(class, "metadata.annotations")
        .get(DEFAULT_CLASS)
        .is_some_and(|v| v == "true");
    let name = text(class, "metadata.name");
    vec![
        json!(if is_default {
            format!("{name} (default)")
        } else {
            name.to_owned()
        }),
        json!(text(class, "provisioner")),
        json!(text(class, "reclaimPolicy")),
        json!(text(class, "volumeBindingMode")),
        json!(flag(class, "allowVolumeExpansion").to_string()),
        cells::age(class, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_of_a_class_stays() {
        let mut old = json!({"provisioner": "a", "parameters": {"x": "1"}});
        (KIND.default)(&mut old);
        assert!(validate(&old).is_empty());
        let mut new = old.clone();
        new["parameters"]["x"] = json!("2");
        assert_eq!(
            validate_update(&new, &old)[0].to_string(),
            "parameters: Forbidden: updates to parameters are forbidden."
        );
    }
}
