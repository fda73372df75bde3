//! Webhooks that may only refuse: all at once.

use std::sync::Arc;
use std::time::Instant;

use api::status::Status;
use futures_util::future::join_all;

use super::call::{self, Wanted};
use super::course::{Course, Turn};
use super::hook::Hook;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::subject::{Objects, Subject};
use crate::admission::metrics::Phase;

/// Lets webhooks refuse the request.
///
/// # Errors
/// The first refusal, or 500 when one that is needed could not be asked.
pub async fn validate(
    hooks: &[Arc<Hook>],
    subject: &Subject,
    objects: Objects<'_>,
    around: Around<'_>,
) -> Result<(), Status> {
    let mut wanted = Vec::new();
    for hook in hooks {
        if let Some(how) = call::wanted(hook, subject, objects, around).await? {
            wanted.push((hook, how));
        }
    }
    let asked = wanted.iter().enumerate().map(|(index, (hook, wanted))| {
        let course = Course {
            hook,
            subject,
            phase: Phase::Validate,
            turn: Turn { round: 0, index },
            began: Instant::now(),
        };
        one(course, wanted, objects, around)
    });
    join_all(asked).await.into_iter().collect()
}

async fn one(
    course: Course<'_>,
    wanted: &Wanted,
    objects: Objects<'_>,
    around: Around<'_>,
) -> Result<(), Status> {
    let (hook, subject, Wanted { kind, shown }) = (course.hook, course.subject, wanted);
    let objects = shown.objects(objects);
    let asked = call::ask(around.outbound, hook, subject, kind, objects, course.phase).await;
    course.settle(asked, around).map(drop)
}
