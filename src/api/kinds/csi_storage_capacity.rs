//! CSIStorageCapacity: how much room a driver has for volumes, as a part of the cluster sees it.

use serde_json::Value;

use super::warnings;
use crate::kind::Kind;
use crate::names;
use crate::quantity::Quantity;
use crate::selector;
use crate::status::FieldError;
use crate::value::Field;

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    kind: "CSIStorageCapacity",
    plural: "csistoragecapacities",
    singular: "csistoragecapacity",
    unconditional_update: false,
    storage_version_hash: "xeVl+2Ly1kE=",
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        for key in ["nodeTopology", "storageClassName"] {
            Field::at(new, key).immutable(old, &mut errors);
        }
        errors
    },
    warnings: |new, _| topology_warnings(new),
    ..Kind::NAMESPACED
};

fn topology_warnings(capacity: &Value) -> Vec<String> {
    let topology = Field::at(capacity, "nodeTopology");
    let mut said = Vec::new();
    for expression in topology.items("matchExpressions") {
        let key = Field::new(expression.get("key").value, &expression.path);
        warnings::node_key(&key, &mut said);
    }
    for (label, _) in topology.entries("matchLabels") {
        if let Some(instead) = warnings::node_label(label) {
            said.push(format!("{}.{label}: {instead}", topology.path_of("matchLabels")));
        }
    }
    said
}

fn validate(capacity: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = |key: &str| Field::at(capacity, key);
    selector::validate(&at("nodeTopology"), &mut errors);
    let class = at("storageClassName");
    errors.extend(class.invalid_each(names::is_dns_subdomain(class.text())));
    for key in ["capacity", "maximumVolumeSize"] {
        let amount = at(key);
        if amount.is_set() && Quantity::from_json(amount.value).is_ok_and(|q| q.is_negative()) {
            errors.push(amount.invalid("must be greater than or equal to 0"));
        }
    }
    errors
}
