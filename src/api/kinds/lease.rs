//! Lease: who holds something, and when it was last renewed.

use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    create_on_update: true,
    unconditional_update: false,
    storage_version_hash: "gqkMMb/YqFM=",
    validate,
    validate_update: |new, _| validate(new),
    columns: &[Column::NAME, Column::text("Holder"), Column::AGE],
    row: |lease, now| {
        vec![
            cells::name(lease),
            json!(text(lease, "spec.holderIdentity")),
            cells::age(lease, now),
        ]
    },
    ..Kind::NAMESPACED
};

fn validate(lease: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(lease, "spec");
    let duration = spec.get("leaseDurationSeconds");
    if duration.int().is_some_and(|n| n <= 0) {
        errors.push(duration.invalid("must be greater than 0"));
    }
    spec.get("leaseTransitions").non_negative(&mut errors);
    let (strategy, preferred) = (spec.get("strategy"), spec.get("preferredHolder"));
    // Kubernetes' path has the name twice.
    let named = Field::new(strategy.value, strategy.path_of("strategy"));
    if strategy.text().contains('/') {
        errors.extend(named.invalid_each(names::is_qualified_name(strategy.text())));
    } else if strategy.is_set() && strategy.text() != "OldestEmulationVersion" {
        errors.push(named.not_supported(&["OldestEmulationVersion"]));
    }
    if !preferred.is_blank() && strategy.is_blank() {
        errors.push(preferred.forbidden("may only be specified if `strategy` is defined"));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_positive() {
        let lease = json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}});
        let texts: Vec<String> = validate(&lease).iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0"
            ]
        );
    }
}
