//! Rules for annotations that mean something on a pod.

use serde_json::Value;

use crate::status::FieldError;
use crate::value::{Field, get};

/// Marks the API's picture of a pod that a node runs by itself.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// How dear the loss of this pod would be when a ReplicaSet shrinks.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// Rules for the annotations of a pod or template with that spec.
pub fn check(annotations: &Field, spec: &Field, errors: &mut Vec<FieldError>) {
    let at = |key: &str| format!("{}[{key}]", annotations.path);
    let said = |key: &str| annotations.value.get(key).and_then(Value::as_str);
    if let Some(mirror) = said(MIRROR).filter(|_| spec.get("nodeName").is_blank()) {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.push(FieldError::invalid(at(MIRROR), mirror, why));
    }
    // As Go's decoder of numbers has it: no plus sign, no leading zero.
    let plain = |cost: &str| cost.parse::<i32>().is_ok_and(|n| n.to_string() == cost);
    if let Some(cost) = said(DELETION_COST).filter(|cost| !plain(cost)) {
        errors.push(FieldError::invalid(
            at(DELETION_COST),
            cost,
            "must be a 32bit integer",
        ));
    }
}

/// A pod cannot become, or cease to be, a picture of another.
pub fn check_update(new: &Value, old: &Value, errors: &mut Vec<FieldError>) {
    let annotations = Field::at(new, "metadata.annotations");
    let (now, before) = (
        annotations.value.get(MIRROR),
        get(old, "metadata.annotations").get(MIRROR),
    );
    let why = match (before, now) {
        (None, Some(_)) => "may not add mirror pod annotation",
        (Some(before), now) if now != Some(before) => "may not remove or update mirror pod annotation",
        _ => return,
    };
    errors.push(FieldError::forbidden(
        format!("{}[{MIRROR}]", annotations.path),
        why,
    ));
}
