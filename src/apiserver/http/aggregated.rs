//! Requests for what other servers serve: who asks, whether they may and how long it lasts is for this server to say.

use std::sync::Arc;

use api::status::Status;
use futures_util::{StreamExt, stream};
use http::{Request, Response, header};
use http_body_util::{BodyStream, StreamBody};
use tokio::time::Instant;

use super::door::Door;
use super::incoming::Incoming;
use super::{path, reply, verbs};
use crate::aggregation::Remote;
use crate::authz::Attributes;
use crate::body::SyncStream;
use crate::body::{Body, BoxError};
use crate::metrics::About;
use crate::passing::Passed;

/// Passes a request on to the server behind `remote`.
pub async fn answer(
    door: &Arc<Door>,
    remote: &Remote,
    about: &About,
    mut incoming: Incoming,
) -> Result<Response<Body>, Status> {
    Passed::limit(&mut incoming.request, &incoming.until);
    let asked = attributes(&incoming);
    door.authorizer.authorize(&asked).await?;
    let lasting = asked.verb == "watch" || incoming.request.headers().contains_key(header::UPGRADE);
    let _running = (asked.verb == "watch").then(|| door.counters.long_running(about));
    let until = end_of(&incoming)?;
    let forwarded = door.aggregation.forward(remote, &incoming.user, incoming.request);
    let response = begun_by(until, forwarded).await?;
    Ok(match lasting {
        true => response,
        false => response.map(|body| cut_off(body, until)),
    })
}

/// Passes the question for a remote's document on, as long as a request may take.
pub async fn document(door: &Door, remote: &Remote, incoming: &Incoming) -> Result<Response<Body>, Status> {
    let until = end_of(incoming)?;
    let asked: &Request<Body> = &incoming.request;
    let forwarded = door.aggregation.forward_document(remote, &incoming.user, asked);
    let response = begun_by(until, forwarded).await?;
    Ok(response.map(|body| cut_off(body, until)))
}

/// When a request's time is over.
fn end_of(incoming: &Incoming) -> Result<Instant, Status> {
    Ok(incoming.began + verbs::timeout(&incoming.query)?)
}

/// The head of an answer, if it comes in time: whoever waits for it keeps a seat.
async fn begun_by(
    until: Instant,
    forwarded: impl Future<Output = Response<Body>>,
) -> Result<Response<Body>, Status> {
    let answered = tokio::time::timeout_at(until, forwarded).await;
    answered.map_err(|_| reply::late())
}

/// A body that breaks off when the request's time is over.
fn cut_off(body: Body, until: Instant) -> Body {
    let frames = stream::unfold(Some(BodyStream::new(body)), move |frames| async move {
        let mut frames = frames?;
        match tokio::time::timeout_at(until, frames.next()).await {
            Ok(next) => Some((next?, Some(frames))),
            Err(_) => Some((Err(BoxError::from("it took too long")), None)),
        }
    });
    Body::new(StreamBody::new(SyncStream::new(frames)))
}

/// The question whether the user may.
fn attributes(incoming: &Incoming) -> Attributes {
    let (method, uri) = (incoming.request.method(), incoming.request.uri());
    match path::parse_foreign(uri.path()) {
        Some(found) => {
            let verb = verbs::metric_verb(&found, method, &incoming.query);
            found.asked(&incoming.user, verbs::rule_verb(verb, method))
        }
        None => Attributes::of_path(&incoming.user, &method.as_str().to_ascii_lowercase(), uri.path()),
    }
}
