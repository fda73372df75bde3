//! FlowSchema and PriorityLevelConfiguration: which requests go first when there are too many.

pub mod levels;
pub mod schemas;

use crate::status::FieldError;
use crate::value::Field;

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
