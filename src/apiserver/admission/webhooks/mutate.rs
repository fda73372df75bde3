//! Webhooks that may change the object: one after another, in the order of their names.

use std::sync::Arc;
use std::time::Instant;

use api::patch;
use api::status::Status;
use serde_json::Value;

use super::call::{self, Failure, Wanted};
use super::course::{Course, Turn};
use super::hook::Hook;
use super::notes;
use crate::admission::dynamic::again::Again;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::shape;
use crate::admission::dynamic::subject::{Objects, Subject};
use crate::admission::metrics::Phase;
use crate::outbound::Outbound;

/// Lets webhooks change the object. True when one did.
///
/// # Errors
/// The refusal of one of them, or 500 when one that is needed could not be asked.
pub async fn mutate(
    hooks: &[Arc<Hook>],
    subject: &Subject,
    object: &mut Option<Value>,
    old: Option<&Value>,
    around: Around<'_>,
    again: &mut Again,
) -> Result<bool, Status> {
    let mut changed = false;
    for (index, hook) in hooks.iter().enumerate() {
        let objects = Objects {
            new: object.as_ref(),
            old,
        };
        let Some(wanted) = call::wanted(hook, subject, objects, around).await? else {
            continue;
        };
        if again.skips(&hook.id) {
            continue;
        }
        let course = Course {
            hook,
            subject,
            phase: Phase::Admit,
            turn: Turn {
                round: again.round(),
                index,
            },
            began: Instant::now(),
        };
        let made = one(&course, around.outbound, &wanted, objects).await;
        let differs = |new: &Value| Some(new) != object.as_ref();
        let mutated = matches!(&made, Ok(Some(new)) if differs(new));
        notes::asked(&course, mutated);
        let made = course.settle(made, around)?.flatten().filter(differs);
        again.asked(&hook.id, hook.asked_again, made.is_some());
        if let Some(new) = made {
            (*object, changed) = (Some(new), true);
        }
    }
    Ok(changed)
}

/// What one webhook makes of the object; `None` when it leaves it alone.
async fn one(
    course: &Course<'_>,
    outbound: &Outbound,
    wanted: &Wanted,
    objects: Objects<'_>,
) -> Result<Option<Value>, Failure> {
    let (hook, subject, Wanted { kind, shown }) = (course.hook, course.subject, wanted);
    let answer = call::ask(
        outbound,
        hook,
        subject,
        kind,
        shown.objects(objects),
        course.phase,
    )
    .await?;
    let Some(patch) = answer.patch else {
        return Ok(None);
    };
    notes::patched(course, &patch);
    let Some(object) = shown.objects(objects).new else {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Failure::Own(Status::internal(why)));
    };
    let patched = patch::json_patch(object.clone(), &patch);
    let patched = patched.map_err(|status| Failure::Own(Status::internal(status.message)))?;
    let settled = shape::settle(patched, object, subject, kind).map_err(Failure::Own)?;
    let back = shown.back(outbound, settled, subject, kind).await;
    back.map(Some).map_err(Failure::Own)
}
