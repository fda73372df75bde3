//! Requests that are not about objects but lead to a node: logs, exec, attach,
//! port-forward, proxies, and the connection an agent dials.

mod admission;
mod connect;
mod exec;
mod kind;
mod link;
mod logs;
mod pod;
mod port_forward;
mod proxy;
mod quiet;
mod spdy;
pub mod upgrade;
pub mod websocket;

use std::sync::Arc;

use api::request::Notes;
use api::status::Status;
use http::{Method, Response};

use crate::audit::Trail;
use crate::authz::Attributes;
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::{Door, reply};
use kind::Kind;

pub use crate::http::Incoming;
#[cfg(test)]
pub use spdy::testing as spdy_for_tests;

/// Whether that path leads to a node rather than to the registry.
pub fn is_stream(path: &ResourcePath) -> bool {
    kind::of(path).is_some()
}

/// Answers such a request.
pub async fn answer(
    door: &Arc<Door>,
    path: ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let Some(kind) = kind::of(&path) else {
        return Err(Status::no_such_path());
    };
    let trail = incoming.request.extensions().get::<Trail>().cloned();
    let notes = trail.as_ref().map(Trail::notes).unwrap_or_default();
    let mut response = match begun(door, kind, path, incoming, &notes).await {
        Ok(response) => response,
        Err(status) => {
            trail.iter().for_each(|trail| trail.failed(&status));
            reply::failure(&status)
        }
    };
    reply::warn(&mut response, &notes.warnings());
    Ok(response)
}

async fn begun(
    door: &Arc<Door>,
    kind: Kind,
    path: ResourcePath,
    incoming: Incoming,
    notes: &Notes,
) -> Result<Response<Body>, Status> {
    allowed(door, kind, &path, &incoming).await?;
    admission::admit(door, kind, &path, &incoming, notes).await?;
    match kind {
        Kind::Logs => logs::answer(door, &path, incoming).await,
        Kind::Exec | Kind::Attach => exec::answer(door, &path, incoming).await,
        Kind::PortForward => port_forward::answer(door, &path, incoming).await,
        Kind::Proxy => proxy::answer(door, &path, incoming).await,
        Kind::Connect => connect::answer(door, &path, incoming).await,
    }
}

async fn allowed(door: &Door, kind: Kind, path: &ResourcePath, incoming: &Incoming) -> Result<(), Status> {
    let verb = match *incoming.request.method() {
        Method::GET | Method::HEAD | Method::OPTIONS => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => {
            return Err(Status::new(
                405,
                "MethodNotAllowed",
                "the server does not allow this method on the requested resource",
            ));
        }
    };
    let asked = path.asked(&incoming.user, verb);
    door.authorizer.authorize(&asked).await?;
    // A WebSocket is opened with GET, but running a command is no reading: whoever may only
    // "get" must not gain what "create" stands for (Kubernetes since 1.35).
    if verb == "get" && matches!(kind, Kind::Exec | Kind::Attach | Kind::PortForward) {
        let creates = Attributes {
            verb: "create".to_owned(),
            ..asked
        };
        door.authorizer.authorize(&creates).await?;
    }
    Ok(())
}
