//! PodDisruptionBudget: how many pods of a sort may be taken away at once.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, workload};
use crate::kind::{Column, Kind, Subresource};
use crate::selector;
use crate::status::FieldError;
use crate::value::{Field, get, int};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short_names: &["pdb"],
    subresources: &[Subresource::status("PodDisruptionBudget")],
    unconditional_update: false,
    storage_version_hash: "EVWiDmWqyJw=",
    validate,
    validate_update: |new, _| validate(new),
    validate_status: |new, _| status(new),
    columns: &[
        Column::NAME,
        Column::text("Min Available"),
        Column::text("Max Unavailable"),
        Column::integer("Allowed Disruptions"),
        Column::AGE,
    ],
    row,
    ..Kind::WITH_STATUS
};

fn validate(budget: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(budget, "spec");
    let (min, max) = (spec.get("minAvailable"), spec.get("maxUnavailable"));
    if min.is_set() && max.is_set() {
        errors.push(spec.invalid("minAvailable and maxUnavailable cannot be both set"));
    }
    for field in [min, max] {
        workload::validate_int_or_percent(&field, &mut errors);
        workload::at_most_100_percent(&field, &mut errors);
    }
    selector::validate(&spec.get("selector"), &mut errors);
    spec.get("unhealthyPodEvictionPolicy")
        .one_of_if_set(&["AlwaysAllow", "IfHealthyBudget"], &mut errors);
    errors
}

fn status(budget: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for key in [
        "disruptionsAllowed",
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
    ] {
        Field::at(budget, "status").get(key).non_negative(&mut errors);
    }
    errors
}

fn row(budget: &Value, now: Timestamp) -> Vec<Value> {
    let amount = |path: &str| match get(budget, path) {
        Value::Null => "N/A".to_owned(),
        Value::String(s) => s.clone(),
        n => n.to_string(),
    };
    vec![
        cells::name(budget),
        json!(amount("spec.minAvailable")),
        json!(amount("spec.maxUnavailable")),
        json!(int(budget, "status.disruptionsAllowed").unwrap_or(0)),
        cells::age(budget, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_bound_only() {
        assert!(validate(&json!({"spec": {"minAvailable": "50%"}})).is_empty());
        let both = validate(&json!({"spec": {"minAvailable": 1, "maxUnavailable": 1}}));
        assert!(
            both[0]
                .to_string()
                .ends_with("minAvailable and maxUnavailable cannot be both set")
        );
        assert_eq!(
            row(&json!({"spec": {"minAvailable": 2}}), Timestamp::UNIX_EPOCH)[1..3],
            ["2", "N/A"]
        );
    }
}
