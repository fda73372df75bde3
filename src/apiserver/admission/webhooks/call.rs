//! Asking one webhook about one request, and what is made of it when it fails.

use std::time::Duration;

use api::kind::KindRef;
use api::status::Status;
use base::{Random, SystemRandom};
use serde_json::Value;

use super::course::Course;
use super::hook::Hook;
use super::notes;
use super::review::{self, Answer};
use crate::admission::World;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::seen::Seen;
use crate::admission::dynamic::settled::settled;
use crate::admission::dynamic::shown::Shown;
use crate::admission::dynamic::subject::{Objects, Subject};
use crate::admission::metrics::{Fault, Phase, Taken};
use crate::outbound::Outbound;

/// What a call that failed counts as: Kubernetes takes it for a service that is not available.
const UNAVAILABLE: u16 = 503;

/// Why a webhook's word is not to be had, or is no.
pub enum Failure {
    /// It could not be asked, or did not answer properly.
    Call(String),
    /// It says no.
    Refused(Status),
    /// What it says cannot be made to fit.
    Own(Status),
}

/// How a webhook is to be asked about a request.
pub struct Wanted {
    /// The version of the resource.
    pub kind: KindRef,
    /// The objects in that version.
    pub shown: Shown,
}

/// How a webhook is to be asked about a request; `None` when it is not.
///
/// # Errors
/// 403 for conditions that cannot be answered, unless the webhook may be left out then; 500 when the objects cannot be
/// converted.
pub async fn wanted(
    hook: &Hook,
    subject: &Subject,
    objects: Objects<'_>,
    around: Around<'_>,
) -> Result<Option<Wanted>, Status> {
    let (others, world) = (around.others, around.world);
    let Some(kind) = hook.matcher.matches(subject, objects, others, world)? else {
        return Ok(None);
    };
    let shown = Shown::of(around.outbound, subject, objects, &kind).await?;
    if hook.conditions.is_empty() {
        return Ok(Some(Wanted { kind, shown }));
    }
    let hold = |world: &dyn World| {
        let seen = Seen::of(subject, &kind, &Value::Null, world);
        hook.conditions.hold(&seen.scope(shown.objects(objects)))
    };
    match settled(world, hold).await {
        Ok(true) => Ok(Some(Wanted { kind, shown })),
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
    phase: Phase,
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
    let answer = review::answer(hook.review, &uid, phase == Phase::Admit, &said)
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

impl Course<'_> {
    /// Counts how a turn ended. What a failure means for the request is nothing, when the webhook may be left out,
    /// which is noted.
    ///
    /// # Errors
    /// The refusal of the request.
    pub fn settle<T>(&self, result: Result<T, Failure>, around: Around<'_>) -> Result<Option<T>, Status> {
        let (hook, metrics) = (self.hook, around.metrics);
        let taken = |rejected| self.taken(rejected, self.began.elapsed());
        let (fault, code, status) = match result {
            Ok(said) => {
                metrics.webhook(&hook.name, taken(false), 200);
                return Ok(Some(said));
            }
            Err(Failure::Call(why)) => {
                let why = format!("failed calling webhook {:?}: {why}", hook.name);
                if hook.fails_open {
                    tracing::warn!(%why, "a webhook is left out");
                    notes::failed_open(self);
                    metrics.webhook_failed_open(&hook.name, self.phase);
                    metrics.webhook(&hook.name, taken(false), UNAVAILABLE);
                    return Ok(None);
                }
                (Fault::Call, UNAVAILABLE, Status::internal(why))
            }
            Err(Failure::Refused(status)) => (Fault::None, status.code, status),
            Err(Failure::Own(status)) => (Fault::Own, 0, status),
        };
        metrics.webhook(&hook.name, taken(true), code);
        metrics.webhook_rejected(&hook.name, taken(true), fault, code);
        Err(status)
    }

    fn taken(&self, rejected: bool, took: Duration) -> Taken {
        Taken {
            phase: self.phase,
            operation: self.subject.operation,
            rejected,
            took,
        }
    }
}
