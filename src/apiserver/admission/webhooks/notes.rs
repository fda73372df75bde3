//! What the audit log is told of webhooks, under Kubernetes' keys.

use serde_json::{Value, json};

use super::course::Course;
use crate::admission::metrics::Phase;

/// Begins the key that tells what a webhook changed. It shows the object, so only those levels of the log that show
/// bodies have it.
pub const PATCH: &str = "patch.webhook.admission.k8s.io/";
const MUTATION: &str = "mutation.webhook.admission.k8s.io/";
const VALIDATING: &str = "validating.webhook.admission.k8s.io/";

/// A webhook that may change the object was asked, and did or did not.
pub fn asked(course: &Course<'_>, mutated: bool) {
    let said =
        json!({"configuration": course.hook.configuration, "webhook": course.hook.name, "mutated": mutated});
    let notes = &course.subject.notes;
    notes.annotate(course.turn.key(MUTATION), said.to_string());
}

/// It gave a patch.
pub fn patched(course: &Course<'_>, patch: &Value) {
    let said = json!({"configuration": course.hook.configuration, "webhook": course.hook.name, "patch": patch,
        "patchType": "JSONPatch"});
    let notes = &course.subject.notes;
    notes.annotate(course.turn.key(PATCH), said.to_string());
}

/// A webhook was left out.
pub fn failed_open(course: &Course<'_>) {
    let prefix = match course.phase {
        Phase::Admit => MUTATION,
        Phase::Validate => VALIDATING,
    };
    let key = course.turn.key(&format!("failed-open.{prefix}"));
    course.subject.notes.annotate(key, &course.hook.name);
}
