//! FlowSchema and PriorityLevelConfiguration: which requests go first when there are too many.

pub mod levels;
pub mod schemas;

use crate::kind::Kind;
use crate::status::FieldError;
use crate::value::Field;

/// What both have in common.
const BASE: Kind = Kind {
    group: "flowcontrol.apiserver.k8s.io",
    validate_status: |new, _| {
        let mut errors = Vec::new();
        conditions(&Field::at(new, "status"), &mut errors);
        errors
    },
    ..Kind::CLUSTER_WITH_STATUS
};

/// Conditions in a status have types, each once.
fn conditions(status: &Field, errors: &mut Vec<FieldError>) {
    status.unique("conditions", "type", errors);
    for condition in status.items("conditions") {
        let kind = condition.get("type");
        if kind.is_blank() {
            errors.push(kind.required("must not be empty"));
        }
    }
}
