//! ValidatingAdmissionPolicy: rules that refuse, warn or note.

use api::cel::{Scope, Val};
use api::status::{Cause, Status};
use serde_json::json;

use super::policy::{Binding, Policy, Validation, Work};
use super::turn::{Bound, Turn, turns};
use crate::admission::World;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::conditions::{Expression, TOTAL_COST_MAX};
use crate::admission::dynamic::seen::Seen;
use crate::admission::dynamic::settled::settled;
use crate::admission::dynamic::shown::Shown;
use crate::admission::dynamic::subject::{Objects, Subject};

/// The longest message that a rule may compute, bytes.
const MESSAGE_MAX: usize = 5 * 1024;
/// Audit annotations are cut there, bytes.
const ANNOTATION_MAX: usize = 10 * 1024;

/// A rule that does not hold, or cannot be asked.
#[derive(Debug, PartialEq)]
struct Violation {
    /// Which rule.
    place: usize,
    /// What is said of it.
    message: String,
    /// The reason of the refusal.
    reason: String,
}

/// Lets policies refuse the request.
///
/// # Errors
/// The first refusal.
pub async fn validate(
    bound: &[Bound],
    subject: &Subject,
    objects: Objects<'_>,
    around: Around<'_>,
) -> Result<(), Status> {
    let (turns, misfits) = turns(bound, subject, objects, around);
    let closed = misfits.into_iter().filter(|misfit| !misfit.policy.fails_open);
    let mut refusals: Vec<Status> = closed
        .map(|misfit| refusal(subject, misfit.policy, misfit.binding, &misfit.why, ""))
        .collect();
    for turn in &turns {
        match Shown::of(around.outbound, subject, objects, &turn.kind).await {
            Ok(shown) => refusals.extend(ask(turn, subject, shown.objects(objects), around).await),
            Err(_) if turn.policy.fails_open => {}
            Err(status) => {
                let why = format!("failed to convert object version: {}", status.message);
                refusals.push(refusal(subject, turn.policy, None, &why, ""));
            }
        }
    }
    refusals.into_iter().next().map_or(Ok(()), Err)
}

/// Asks a policy; warns and notes at once, and returns what is refused.
async fn ask(turn: &Turn<'_>, subject: &Subject, objects: Objects<'_>, around: Around<'_>) -> Vec<Status> {
    let Turn { policy, binding, .. } = turn;
    let judged = settled(around.world, |world| judge(turn, subject, objects, world));
    let (violations, notes) = judged.await;
    for (key, value) in notes {
        subject.notes.annotate(format!("{}/{key}", policy.name), value);
    }
    let mut refusals = Vec::new();
    for violation in violations {
        for action in &binding.actions {
            match action.as_str() {
                "Warn" => subject.notes.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                    policy.name, binding.name, violation.message
                )),
                "Audit" => note(subject, policy, binding, &violation),
                _ => refusals.push(refusal(
                    subject,
                    policy,
                    Some(binding),
                    &violation.message,
                    &violation.reason,
                )),
            }
        }
    }
    refusals
}

fn note(subject: &Subject, policy: &Policy, binding: &Binding, violation: &Violation) {
    let said = json!([{
        "message": violation.message, "policy": policy.name, "binding": binding.name,
        "expressionIndex": violation.place, "validationActions": binding.actions,
    }]);
    let key = "validation.policy.admission.k8s.io/validation_failure";
    subject.notes.annotate(key, said.to_string());
}

/// What a policy has against a request, and the audit annotations that it makes. Evaluates everything, decides
/// nothing.
fn judge(
    turn: &Turn<'_>,
    subject: &Subject,
    objects: Objects<'_>,
    world: &dyn World,
) -> (Vec<Violation>, Vec<(String, String)>) {
    let policy = turn.policy;
    let Work::Validate(rules, annotations) = &policy.work else {
        return Default::default();
    };
    let seen = Seen::of(subject, &turn.kind, &turn.parameter, world);
    let failed = |place: usize, message: String| Violation {
        place,
        message,
        reason: String::new(),
    };
    let scope = seen.scope(objects);
    match policy.conditions.hold(&scope) {
        Ok(true) => {}
        Ok(false) => return Default::default(),
        Err(_) if policy.fails_open => return Default::default(),
        Err(why) => return (vec![failed(0, why)], Vec::new()),
    }
    let mut left = TOTAL_COST_MAX;
    let scope = policy.scope(scope, &mut left);
    let mut violations = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        match rule.condition.eval(&scope, &mut left) {
            Ok(Val::Bool(true)) => {}
            Ok(_) => violations.push(Violation {
                place,
                message: message(rule, &scope, &mut left),
                reason: rule.reason.clone(),
            }),
            Err(_) if policy.fails_open => {}
            Err(why) => violations.push(failed(place, why)),
        }
    }
    let mut notes = Vec::new();
    for (key, value) in annotations {
        match annotation(value, &scope, &mut left) {
            Ok(Some(text)) => notes.push((key.clone(), text)),
            Ok(None) => {}
            Err(_) if policy.fails_open => {}
            Err(why) => violations.push(failed(rules.len(), why)),
        }
    }
    (violations, notes)
}

/// The text of a refusal: computed, else written, else the rule itself.
fn message(rule: &Validation, scope: &Scope<'_>, left: &mut u64) -> String {
    let computed = rule.computed.as_ref().map(|computed| computed.eval(scope, left));
    if let Some(Ok(Val::Text(said))) = computed {
        let said = said.trim();
        if !said.is_empty() && !said.contains('\n') && said.len() <= MESSAGE_MAX {
            return said.to_owned();
        }
    }
    match rule.message.as_str() {
        "" => format!("failed expression: {}", rule.condition.source),
        message => message.to_owned(),
    }
}

fn annotation(value: &Expression, scope: &Scope<'_>, left: &mut u64) -> Result<Option<String>, String> {
    match value.eval(scope, left)? {
        Val::Null => Ok(None),
        Val::Text(text) => {
            let mut text = text.trim().to_owned();
            text.truncate(text.floor_char_boundary(ANNOTATION_MAX));
            Ok(Some(text).filter(|text| !text.is_empty()))
        }
        other => Err(format!(
            "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
            value.source,
            other.type_name()
        )),
    }
}

fn refusal(subject: &Subject, policy: &Policy, binding: Option<&Binding>, why: &str, reason: &str) -> Status {
    let with = binding.map_or(String::new(), |binding| {
        format!(" with binding '{}'", binding.name)
    });
    let message = format!(
        "ValidatingAdmissionPolicy '{}'{with} denied request: {why}",
        policy.name
    );
    let mut status = subject.forbidden(&message);
    let reason = if reason.is_empty() { "Invalid" } else { reason };
    status.reason = reason.to_owned();
    status.code = match reason {
        "Forbidden" => 403,
        "Unauthorized" => 401,
        "RequestEntityTooLarge" => 413,
        _ => 422,
    };
    if let Some(details) = &mut status.details {
        details.causes.push(Cause {
            message,
            ..Cause::default()
        });
    }
    status
}
