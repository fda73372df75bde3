//! `kubectl logs`.

use std::sync::Arc;
use std::time::Duration;

use api::status::Status;
use bytes::Bytes;
use http::Response;
use jiff::Timestamp;
use tokio::sync::mpsc;

use super::body::{Body, streamed};
use super::query::Query;
use super::service::Target;
use crate::context::Context;
use crate::logs::reader::{self, LogOptions};
use crate::pods::spec;
use crate::pods::table::ContainerView;

const WAITING_PIECES_MAX: usize = 8;

pub(super) fn answer(node: &Arc<Context>, target: &Target, query: &Query) -> Result<Response<Body>, Status> {
    let options = options(query, node.clock.now())?;
    let (uid, attempt) = {
        let view = target.view.borrow();
        let container = view.containers.get(&target.container);
        let attempt = attempt(container, &options, &target.container, spec::name(&view.pod))?;
        (spec::uid(&view.pod).to_owned(), attempt)
    };
    let path = node.paths.log(&uid, &target.container, attempt);
    let (sender, receiver) = mpsc::channel(WAITING_PIECES_MAX);
    let (seen, name) = (target.view.clone(), target.container.clone());
    let alive = move || {
        // The pod's worker is gone when its end of the channel is.
        let here = seen.has_changed().is_ok();
        let view = seen.borrow();
        let runs = |c: &ContainerView| c.attempt == attempt && c.container_id.is_some();
        here && view.containers.get(&name).is_some_and(runs)
    };
    tokio::spawn(async move {
        let (raw, mut pieces) = mpsc::channel::<std::io::Result<Bytes>>(1);
        let read = reader::stream(path, options, alive, raw);
        let pass = async {
            while let Some(piece) = pieces.recv().await {
                if sender.send(piece.map_err(Into::into)).await.is_err() {
                    return;
                }
            }
        };
        tokio::pin!(read, pass);
        tokio::select! {
            result = &mut read => {
                if let Err(error) = result {
                    tracing::warn!(%error, "a log cannot be read");
                }
                pass.await;
            }
            () = &mut pass => {}
        }
    });
    Ok(Response::new(streamed(receiver)))
}

/// Which run's log is wanted (kubelet `validateContainerLogStatus`).
fn attempt(
    container: Option<&ContainerView>,
    options: &LogOptions,
    name: &str,
    pod: &str,
) -> Result<u32, Status> {
    let Some(container) = container else {
        return Err(Status::bad_request(format!(
            "container {name:?} in pod {pod:?} is not available"
        )));
    };
    let previous = || {
        Status::bad_request(format!(
            "previous terminated container {name:?} in pod {pod:?} not found"
        ))
    };
    if options.previous {
        return container.attempt.checked_sub(1).ok_or_else(previous);
    }
    if container.launched {
        return Ok(container.attempt);
    }
    Err(match container.waiting.as_str() {
        "ErrImagePull" | "ImagePullBackOff" => Status::bad_request(format!(
            "container {name:?} in pod {pod:?} is waiting to start: trying and failing to pull image"
        )),
        reason => Status::bad_request(format!(
            "container {name:?} in pod {pod:?} is waiting to start: {reason}"
        )),
    })
}

fn options(query: &Query, now: Timestamp) -> Result<LogOptions, Status> {
    let number = |name: &str| match query.get(name) {
        None => Ok(None),
        Some(text) => text
            .parse::<u64>()
            .map(Some)
            .map_err(|_| Status::bad_request(format!("{name} is not a number: {text:?}"))),
    };
    let since = match (number("sinceSeconds")?, query.get("sinceTime")) {
        (Some(seconds), _) => now.checked_sub(Duration::from_secs(seconds)).ok(),
        (None, Some(text)) => Some(
            text.parse::<Timestamp>()
                .map_err(|_| Status::bad_request(format!("sinceTime is not a time: {text:?}")))?,
        ),
        (None, None) => None,
    };
    Ok(LogOptions {
        follow: query.is("follow"),
        previous: query.is("previous"),
        tail_lines: number("tailLines")?,
        since,
        timestamps: query.is("timestamps"),
        limit_bytes: number("limitBytes")?,
    })
}
