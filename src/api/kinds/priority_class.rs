//! PriorityClass: names a pod priority.

use serde_json::{Value, json};

use super::{cells, metadata};
use crate::kind::{Column, Kind};
use crate::status::FieldError;
use crate::value::{Field, fill_text, flag, get, int, text};

/// The highest priority a user may define.
pub const USER_PRIORITY_MAX: i64 = 1_000_000_000;

/// Classes that exist in every cluster, above what users may define.
const SYSTEM: [(&str, i64); 2] = [
    ("system-cluster-critical", 2_000_000_000),
    ("system-node-critical", 2_000_001_000),
];

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short_names: &["pc"],
    storage_version_hash: "1QwjyaZjj3Y=",
    default: |class| fill_text(class, "preemptionPolicy", "PreemptLowerPriority"),
    prepare_create: |class| metadata::set_generation(class, 1),
    prepare_update: |new, old| metadata::bump_generation(new, old, false),
    validate,
    validate_update,
    columns: &[
        Column::NAME,
        Column::integer("Value"),
        Column::boolean("Global-Default"),
        Column::AGE,
        Column::text("PreemptionPolicy"),
    ],
    row: |class, now| {
        vec![
            cells::name(class),
            json!(int(class, "value").unwrap_or(0)),
            json!(flag(class, "globalDefault")),
            cells::age(class, now),
            json!(text(class, "preemptionPolicy")),
        ]
    },
    ..Kind::CLUSTER
};

fn validate(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, value) = (text(class, "metadata.name"), int(class, "value").unwrap_or(0));
    if name.starts_with("system-") {
        let why = match SYSTEM.iter().find(|(known, _)| *known == name) {
            Some((_, wanted)) if *wanted != value => {
                format!("value of {name} PriorityClass must be {wanted}")
            }
            Some(_) if flag(class, "globalDefault") => {
                format!("globalDefault of {name} PriorityClass must be false")
            }
            Some(_) => String::new(),
            None => format!("{name} is not a known system priority class"),
        };
        if !why.is_empty() {
            errors.push(FieldError::forbidden(
                "metadata.name",
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"),
            ));
        }
    } else if value > USER_PRIORITY_MAX {
        errors.push(FieldError::forbidden(
            "value",
            format!("maximum allowed value of a user defined priority is {USER_PRIORITY_MAX}"),
        ));
    }
    Field::at(class, "preemptionPolicy").one_of_if_set(&["PreemptLowerPriority", "Never"], &mut errors);
    errors
}

fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if get(new, "value") != get(old, "value") {
        errors.push(FieldError::forbidden("value", "may not be changed in an update."));
    }
    Field::at(new, "preemptionPolicy").immutable(old, &mut errors);
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_bounds_and_stay() {
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        assert!(validate(&class("high", 1_000_000_000)).is_empty());
        assert!(validate(&class("system-node-critical", 2_000_001_000)).is_empty());
        assert_eq!(
            validate(&class("high", 1_000_000_001))[0].to_string(),
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000"
        );
        assert_eq!(validate(&class("system-x", 1)).len(), 1);
        assert_eq!(
            validate_update(&class("a", 1), &class("a", 2))[0].to_string(),
            "value: Forbidden: may not be changed in an update."
        );
    }
}
