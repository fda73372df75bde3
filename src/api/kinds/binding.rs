//! Binding: puts a pod on a node.

use serde_json::Value;

use crate::kind::Kind;
use crate::status::FieldError;
use crate::value::Field;

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Binding",
    plural: "bindings",
    singular: "binding",
    namespaced: true,
    validate,
    ..Kind::ASKED
};

fn validate(binding: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let target = Field::at(binding, "target");
    target
        .get("kind")
        .one_of_if_set(&["Node", "<empty>"], &mut errors);
    if target.get("name").is_blank() {
        errors.push(target.get("name").required(""));
    }
    errors
}
