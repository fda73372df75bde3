//! `POST /apis/coracle.dev/v1/nodes/NAME/connect`: an agent offers its server
//! the way back.

use std::sync::Arc;

use api::status::Status;
use client::link::PROTOCOL;
use http::header::UPGRADE;
use http::{Method, Response};

use super::{Incoming, upgrade};
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::{Door, negotiate};

/// Takes the connection over once the answer is sent.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let (mut request, until) = (incoming.request, incoming.until);
    let proper = request.method() == Method::POST && negotiate::lists(request.headers(), &UPGRADE, PROTOCOL);
    if !proper {
        return Err(Status::bad_request(
            "an agent connects with POST and \"Upgrade: coracle-agent\"",
        ));
    }
    let upgraded = hyper::upgrade::on(&mut request);
    let (nodes, node) = (door.nodes.clone(), path.name.clone());
    tokio::spawn(async move {
        let connection = match upgraded.await {
            Ok(connection) => connection,
            Err(error) => return tracing::debug!(node, %error, "agent connection was not upgraded"),
        };
        let ended = tokio::select! {
            ended = nodes.serve_remote(&node, connection) => ended,
            // With a certificate that counts, it comes again.
            _ = until.over() => Ok(()),
        };
        if let Err(error) = ended {
            tracing::info!(node, %error, "agent connection broke off");
        }
    });
    Ok(upgrade::to(PROTOCOL))
}
