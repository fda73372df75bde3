//! Asking one webhook about one request.

use api::kind::KindRef;
use api::status::Status;
use base::{Random, SystemRandom};
use serde_json::Value;

use super::hook::Hook;
use super::review::{self, Answer};
use crate::admission::World;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::seen::Seen;
use crate::admission::dynamic::settled::settled;
use crate::admission::dynamic::subject::{Objects, Subject};
use crate::outbound::Outbound;

/// Why a webhook's word is not to be had, or is no.
pub enum Failure {
    /// It could not be asked, or did not answer properly.
    Call(String),
    /// It says no, or the request can be answered no other way.
    Refused(Status),
}

/// The version of the resource in which a webhook is to be asked about a request; `None` when it is not.
///
/// # Errors
/// 403 for conditions that cannot be answered, unless the webhook may be left out then.
pub async fn wanted(
    hook: &Hook,
    subject: &Subject,
    objects: Objects<'_>,
    around: Around<'_>,
) -> Result<Option<KindRef>, Status> {
    let (others, world) = (around.others, around.world);
    let Some(kind) = hook.matcher.matches(subject, objects, others, world)? else {
        return Ok(None);
    };
    if hook.conditions.is_empty() {
        return Ok(Some(kind));
    }
    let hold = |world: &dyn World| {
        let seen = Seen::of(subject, &kind, &Value::Null, world);
        hook.conditions.hold(&seen.scope(objects))
    };
    match settled(world, hold).await {
        Ok(true) => Ok(Some(kind)),
        Ok(false) => Ok(None),
        Err(_) if hook.fails_open => Ok(None),
        Err(why) => Err(subject.forbidden(&why)),
    }
}

/// Asks a webhook. What it warns of and notes is told at once.
///
/// # Errors
/// See [`Failure`].
pub async fn ask(
    outbound: &Outbound,
    hook: &Hook,
    subject: &Subject,
    kind: &KindRef,
    objects: Objects<'_>,
    mutating: bool,
) -> Result<Answer, Failure> {
    if subject.options.dry_run && !hook.dry_runs {
        let why = format!("admission webhook {:?} does not support dry run", hook.name);
        return Err(Failure::Refused(Status::bad_request(why)));
    }
    let endpoint = hook.endpoint.as_ref();
    let endpoint = endpoint.map_err(|why| Failure::Call(format!("could not get REST client: {why}")))?;
    let uid = SystemRandom.uuid();
    let body = review::question(hook.review, &uid, &subject.request(kind), objects);
    let query = format!("timeout={}s", hook.timeout_seconds);
    let said = outbound.post(endpoint, &query, body, hook.timeout()).await;
    let said = said.map_err(|why| Failure::Call(format!("failed to call webhook: {why}")))?;
    let answer = review::answer(hook.review, &uid, mutating, &said)
        .map_err(|why| Failure::Call(format!("received invalid webhook response: {why}")))?;
    for warning in &answer.warnings {
        subject.notes.warn(warning);
    }
    for (key, value) in &answer.annotations {
        subject.notes.annotate(format!("{}/{key}", hook.name), value);
    }
    match &answer.denied {
        Some(why) => Err(Failure::Refused(review::denial(&hook.name, why))),
        None => Ok(answer),
    }
}

/// What a failure means for the request: nothing, when the webhook may be left out.
///
/// # Errors
/// The refusal of the request.
pub fn settle(hook: &Hook, failure: Failure) -> Result<(), Status> {
    match failure {
        Failure::Refused(status) => Err(status),
        Failure::Call(why) => {
            let why = format!("failed calling webhook {:?}: {why}", hook.name);
            if hook.fails_open {
                tracing::warn!(%why, "a webhook is left out");
                return Ok(());
            }
            Err(Status::internal(why))
        }
    }
}
