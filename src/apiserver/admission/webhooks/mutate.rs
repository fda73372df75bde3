//! Webhooks that may change the object: one after another, in the order of their names.

use std::sync::Arc;

use api::kind::KindRef;
use api::patch;
use api::status::Status;
use serde_json::Value;

use super::call::{self, Failure};
use super::hook::Hook;
use crate::admission::dynamic::again::Again;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::shape;
use crate::admission::dynamic::shown::Shown;
use crate::admission::dynamic::subject::{Objects, Subject};
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
    for hook in hooks {
        let objects = Objects {
            new: object.as_ref(),
            old,
        };
        let Some(kind) = call::wanted(hook, subject, objects, around).await? else {
            continue;
        };
        if again.skips(&hook.id) {
            continue;
        }
        let made = one(hook, around.outbound, subject, &kind, objects).await;
        let made = match made {
            Ok(made) => made.filter(|new| Some(new) != object.as_ref()),
            Err(failure) => {
                call::settle(hook, failure)?;
                None
            }
        };
        again.asked(&hook.id, hook.asked_again, made.is_some());
        if let Some(new) = made {
            (*object, changed) = (Some(new), true);
        }
    }
    Ok(changed)
}

/// What one webhook makes of the object; `None` when it leaves it alone.
async fn one(
    hook: &Hook,
    outbound: &Outbound,
    subject: &Subject,
    kind: &KindRef,
    objects: Objects<'_>,
) -> Result<Option<Value>, Failure> {
    let shown = Shown::of(outbound, subject, objects, kind).await;
    let shown = shown.map_err(Failure::Refused)?;
    let answer = call::ask(outbound, hook, subject, kind, shown.objects(objects), true).await?;
    let Some(patch) = answer.patch else {
        return Ok(None);
    };
    let Some(object) = shown.objects(objects).new else {
        let why = format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            hook.name
        );
        return Err(Failure::Refused(Status::internal(why)));
    };
    let patched = patch::json_patch(object.clone(), &patch);
    let patched = patched.map_err(|status| Failure::Refused(Status::internal(status.message)))?;
    let settled = shape::settle(patched, object, subject, kind).map_err(Failure::Refused)?;
    let back = shown.back(outbound, settled, subject, kind).await;
    back.map(Some).map_err(Failure::Refused)
}
