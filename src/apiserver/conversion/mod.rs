//! One object in several versions: what kinds of the table do by functions, and custom kinds by changing a name
//! or by asking a webhook.

mod review;

use api::custom::CustomKind;
use api::kind::KindRef;
use api::object;
use api::status::Status;
use api::value::{get, list};
use base::{Random, SystemRandom};
use serde_json::Value;
use std::time::Duration;

use crate::outbound::Outbound;
use crate::outbound::endpoint::Endpoint;

/// How long a webhook may take, as in Kubernetes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The versions of ConversionReview that are spoken.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];

/// Whether objects of a kind become those of another version by asking somebody.
pub fn by_webhook(kind: &KindRef) -> bool {
    kind.custom().is_some_and(|custom| custom.conversion().is_some())
}

/// An object of one served version as one of another, by the same names.
///
/// # Errors
/// 500 when a webhook does not convert it.
pub async fn convert(
    outbound: &Outbound,
    mut object: Value,
    from: &KindRef,
    to: &KindRef,
) -> Result<Value, Status> {
    if let Some(custom) = to.custom() {
        let version = to.api_version();
        let made = to_version(outbound, custom, vec![object], &version).await?;
        return made
            .into_iter()
            .next()
            .ok_or_else(|| Status::internal("nothing was converted"));
    }
    if from.version != to.version || from.group != to.group {
        if let Some(storage) = from.storage {
            (storage.to_stored)(&mut object);
        }
        if let Some(storage) = to.storage {
            (storage.to_served)(&mut object);
        }
    }
    Ok(object)
}

/// Custom objects in the version `group/version`; those that are in it already are left alone.
///
/// # Errors
/// 500 when a webhook does not convert them.
pub async fn to_version(
    outbound: &Outbound,
    custom: &CustomKind,
    mut objects: Vec<Value>,
    version: &str,
) -> Result<Vec<Value>, Status> {
    let Some(webhook) = custom.conversion() else {
        for object in &mut objects {
            object::set(object, &["apiVersion"], version);
        }
        return Ok(objects);
    };
    let others = || {
        objects
            .iter()
            .filter(|object| object::api_version(object) != version)
    };
    let sent: Vec<&Value> = others().collect();
    let Some(first) = sent.first() else {
        return Ok(objects);
    };
    let subject = format!("{}, Kind={}", object::api_version(first), object::kind(first));
    let failed = |why: String| Status::new(500, "", format!("conversion webhook for {subject} {why}"));
    let made = ask(outbound, webhook, &sent, version).await;
    let made = made.map_err(|why| failed(format!("failed: {why}")))?;
    let made = review::accept(&sent, made, version).map_err(failed)?;
    let mut made = made.into_iter();
    for object in &mut objects {
        if object::api_version(object) != version
            && let Some(converted) = made.next()
        {
            *object = converted;
        }
    }
    Ok(objects)
}

async fn ask(
    outbound: &Outbound,
    webhook: &Value,
    objects: &[&Value],
    version: &str,
) -> Result<Vec<Value>, String> {
    let endpoint = Endpoint::of(get(webhook, "clientConfig"))?;
    let mut spoken = list(webhook, "conversionReviewVersions").iter();
    let spoken = spoken.find_map(|given| REVIEWS.into_iter().find(|known| given == known));
    let spoken = spoken.ok_or("no supported conversion review versions")?;
    let uid = SystemRandom.uuid();
    let question = review::question(spoken, &uid, objects, version);
    let said = outbound.post(&endpoint, "timeout=30s", question, TIMEOUT).await?;
    review::answer(spoken, &uid, &said)
}
