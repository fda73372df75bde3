//! ClusterRole: what may be done in the cluster.

use serde_json::Value;

use super::rbac;
use crate::kind::Kind;
use crate::names;
use crate::selector;
use crate::status::FieldError;
use crate::value::Field;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "rbac.authorization.k8s.io",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    create_on_update: true,
    storage_version_hash: "bYE5ZWDrJ44=",
    name_rule: names::path_segment,
    validate,
    validate_update: |new, _| validate(new),
    ..Kind::CLUSTER
};

fn validate(role: &Value) -> Vec<FieldError> {
    let mut errors = rbac::rules(role, false);
    let aggregation = Field::at(role, "aggregationRule");
    let selectors = aggregation.items("clusterRoleSelectors");
    if aggregation.is_set() && selectors.is_empty() {
        let at = aggregation.get("clusterRoleSelectors");
        errors.push(at.required("at least one clusterRoleSelector required if aggregationRule is non-nil"));
    }
    for selector in selectors {
        selector::validate(&selector, &mut errors);
    }
    errors
}
