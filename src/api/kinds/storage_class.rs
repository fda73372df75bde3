//! StorageClass: a sort of storage.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, warnings};
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill_text, flag, get, same, text};

const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    returns_deleted: true,
    short_names: &["sc"],
    storage_version_hash: "K+m6uJwbjGY=",
    default: |class| {
        fill_text(class, "reclaimPolicy", "Delete");
        fill_text(class, "volumeBindingMode", "Immediate");
    },
    validate,
    validate_update,
    warnings: |new, _| topology_warnings(new),
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

/// Most parameters of a class.
const PARAMETERS_MAX: usize = 512;
/// Most bytes of all parameters together.
const PARAMETER_BYTES_MAX: usize = 256 * 1024;

fn validate(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let root = Field::new(class, "");
    let provisioner = root.get("provisioner");
    if provisioner.needed(&mut errors) {
        let wrong = names::is_qualified_name(&provisioner.text().to_lowercase());
        errors.extend(provisioner.invalid_each(wrong));
    }
    parameters(&root, &mut errors);
    root.get("reclaimPolicy")
        .one_of(&["Delete", "Retain"], &mut errors);
    root.get("volumeBindingMode")
        .one_of(&["Immediate", "WaitForFirstConsumer"], &mut errors);
    topologies(&root, &mut errors);
    errors
}

fn parameters(class: &Field, errors: &mut Vec<FieldError>) {
    let (at, all) = (class.get("parameters"), class.entries("parameters"));
    if all.len() > PARAMETERS_MAX {
        errors.push(FieldError::too_long(&at.path, PARAMETERS_MAX));
        return;
    }
    if all.iter().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(&at.path, "", "field can not be empty."));
    }
    let size: usize = all
        .iter()
        .map(|(key, value)| key.len() + value.text().len())
        .sum();
    if size > PARAMETER_BYTES_MAX {
        errors.push(FieldError::too_long(&at.path, PARAMETER_BYTES_MAX));
    }
}

fn topology_warnings(class: &Value) -> Vec<String> {
    let terms = Field::new(class, "").items("allowedTopologies");
    let expressions = terms.iter().flat_map(|term| term.items("matchLabelExpressions"));
    let old = expressions.filter_map(|expression| {
        let instead = warnings::node_label(expression.get("key").text())?;
        Some(format!("{}: {instead}", expression.path))
    });
    old.collect()
}

fn topologies(class: &Field, errors: &mut Vec<FieldError>) {
    for term in class.items("allowedTopologies") {
        for expression in term.items("matchLabelExpressions") {
            let key = expression.get("key");
            expression.get("values").needed(errors);
            expression.unique("values", "", errors);
            errors.extend(key.invalid_each(names::is_qualified_name(key.text())));
        }
        term.unique("matchLabelExpressions", "key", errors);
    }
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
