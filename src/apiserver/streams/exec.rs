//! `pods/NAME/exec` and `pods/NAME/attach`: a client's channels, over SPDY or a
//! WebSocket, joined to the agent's frames.

mod channels;
mod joining;
mod speaking;

use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{Method, Response};
use tokio::sync::mpsc;

use super::quiet::Wire;
use super::spdy::Session;
use super::upgrade::{self, Wanted};
use super::{Incoming, link, pod};
use crate::body::Body;
use crate::http::path::ResourcePath;
use crate::http::query::Query;
use crate::http::{Door, End};
use channels::Channels;
use joining::join;
use speaking::{over_spdy, over_websocket};

const WEBSOCKET_PROTOCOLS: [&str; 6] = [
    "v5.channel.k8s.io",
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
    "",
];
const SPDY_PROTOCOLS: [&str; 5] = [
    "v4.channel.k8s.io",
    "v3.channel.k8s.io",
    "v2.channel.k8s.io",
    "channel.k8s.io",
    "",
];

/// Runs a command in a container, or attaches to what runs there.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let channels = Channels::of(&incoming.query)?;
    let (mut request, until) = (incoming.request, incoming.until);
    let wanted = upgrade::required(request.version(), request.headers())?;
    let (protocol, response) = match wanted {
        Wanted::WebSocket => {
            let protocol = upgrade::choose(request.headers(), &SEC_WEBSOCKET_PROTOCOL, &WEBSOCKET_PROTOCOLS)?;
            (protocol, upgrade::to_websocket(request.headers(), protocol)?)
        }
        Wanted::Spdy => {
            let protocol = upgrade::choose(request.headers(), &upgrade::STREAM_PROTOCOL, &SPDY_PROTOCOLS)?;
            (protocol, upgrade::to_spdy(protocol))
        }
    };
    let (to_node, from_node) = dial(door, path, &incoming.query, channels).await?;
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let (connection, used) = Wire::of(connection);
        let client = match wanted {
            Wanted::WebSocket => over_websocket(connection, protocol, channels).await,
            Wanted::Spdy => over_spdy(Session::start(connection), protocol, channels).await,
        };
        let Some(client) = client else { return };
        let cut = async {
            tokio::select! {
                () = used.quiet() => "the connection was idle for too long",
                end = until.over() => match end {
                    End::Stop => "the server is shutting down",
                    End::Distrusted => "the client's certificate is trusted no more",
                },
            }
        };
        join(client, to_node, from_node, cut).await;
    });
    Ok(response)
}

/// Starts the command on its node, so that what goes wrong there is still an HTTP answer.
async fn dial(
    door: &Door,
    path: &ResourcePath,
    query: &Query,
    channels: Channels,
) -> Result<(mpsc::Sender<Bytes>, Body), Status> {
    let object = pod::get(door, "pods", &path.namespace, &path.name).await?;
    let phase = object["status"]["phase"].as_str().unwrap_or_default();
    if matches!(phase, "Succeeded" | "Failed") {
        let what = if path.subresource == "exec" {
            "exec into"
        } else {
            "attach to"
        };
        return Err(Status::bad_request(format!(
            "cannot {what} a container in a completed pod; current phase is {phase}"
        )));
    }
    let container = pod::container(&object, query.get("container").unwrap_or_default())?;
    let node = pod::assigned(&object)?;
    let mut pairs: Vec<(&str, &str)> = query.all("command").map(|word| ("command", word)).collect();
    if path.subresource == "exec" && pairs.is_empty() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let switches = [
        ("stdin", channels.stdin),
        ("stdout", channels.stdout),
        ("stderr", channels.stderr),
        ("tty", channels.tty),
    ];
    pairs.extend(
        switches
            .iter()
            .filter(|(_, on)| *on)
            .map(|(name, _)| (*name, "true")),
    );
    let uri = link::uri(
        &[&path.subresource, &path.namespace, &path.name, &container],
        &pairs,
    );
    let (sender, body) = link::channel();
    let answer = link::ask(door, node, Method::POST, &uri, body).await?;
    Ok((sender, answer.into_body()))
}
