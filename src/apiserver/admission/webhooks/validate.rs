//! Webhooks that may only refuse: all at once.

use std::sync::Arc;

use api::kind::KindRef;
use api::status::Status;
use futures_util::future::join_all;

use super::call;
use super::hook::Hook;
use crate::admission::dynamic::around::Around;
use crate::admission::dynamic::shown::Shown;
use crate::admission::dynamic::subject::{Objects, Subject};
use crate::outbound::Outbound;

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
        if let Some(kind) = call::wanted(hook, subject, objects, around).await? {
            wanted.push((hook, kind));
        }
    }
    let asked = wanted
        .iter()
        .map(|(hook, kind)| one(hook, around.outbound, subject, kind, objects));
    join_all(asked).await.into_iter().collect()
}

async fn one(
    hook: &Hook,
    outbound: &Outbound,
    subject: &Subject,
    kind: &KindRef,
    objects: Objects<'_>,
) -> Result<(), Status> {
    let shown = Shown::of(outbound, subject, objects, kind).await?;
    let asked = call::ask(outbound, hook, subject, kind, shown.objects(objects), false).await;
    asked.map(drop).or_else(|failure| call::settle(hook, failure))
}
