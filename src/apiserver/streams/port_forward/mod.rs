//! `pods/NAME/portforward`: TCP connections into a pod, over SPDY, over SPDY
//! inside a WebSocket, or over a WebSocket with two channels for each port.

mod channels;
mod pairs;
mod target;

use std::sync::Arc;

use api::status::Status;
use http::Response;
use http::header::SEC_WEBSOCKET_PROTOCOL;

use super::quiet::Wire;
use super::spdy::Session;
use super::upgrade::{self, Wanted};
use super::websocket::{self, Framing};
use super::{Incoming, pod};
use crate::body::Body;
use crate::http::Door;
use crate::http::path::ResourcePath;
use target::Target;

const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const WEBSOCKET_PROTOCOLS: [&str; 5] = [
    TUNNELLED,
    "v4.channel.k8s.io",
    "v4.base64.channel.k8s.io",
    "channel.k8s.io",
    "base64.channel.k8s.io",
];
const SPDY_PROTOCOL: &str = "portforward.k8s.io";

/// What the connection goes on with.
enum Carrier {
    Spdy,
    Tunnel,
    Channels { framing: Framing, ports: Vec<u16> },
}

/// Forwards connections until the client is gone.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let Incoming {
        mut request,
        query,
        until,
        ..
    } = incoming;
    let headers = request.headers();
    let (carrier, response) = match upgrade::required(request.version(), headers)? {
        Wanted::WebSocket => {
            let protocol = upgrade::choose(headers, &SEC_WEBSOCKET_PROTOCOL, &WEBSOCKET_PROTOCOLS)?;
            let carrier = match protocol {
                TUNNELLED => Carrier::Tunnel,
                other => Carrier::Channels {
                    framing: Framing::of(other),
                    ports: channels::ports(&query)?,
                },
            };
            (carrier, upgrade::to_websocket(headers, protocol)?)
        }
        Wanted::Spdy => {
            let protocol = upgrade::choose(headers, &upgrade::STREAM_PROTOCOL, &[SPDY_PROTOCOL])?;
            (Carrier::Spdy, upgrade::to_spdy(protocol))
        }
    };
    let object = pod::get(door, "pods", &path.namespace, &path.name).await?;
    let target = Target {
        door: door.clone(),
        node: pod::assigned(&object)?.to_owned(),
        namespace: path.namespace.clone(),
        pod: path.name.clone(),
        uid: object["metadata"]["uid"].as_str().unwrap_or_default().to_owned(),
    };
    let upgraded = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        let (connection, used) = Wire::of(connection);
        let over = async {
            tokio::select! {
                () = used.quiet() => {}
                _ = until.over() => {}
            }
        };
        serve(connection, carrier, target, over).await;
    });
    Ok(response)
}

/// Forwards until the client is gone, or it is `over`.
async fn serve(connection: Wire, carrier: Carrier, target: Target, over: impl Future<Output = ()>) {
    match carrier {
        Carrier::Spdy => pairs::serve(Session::start(connection), target, over).await,
        Carrier::Tunnel => {
            let bytes = websocket::bytes(websocket::socket(connection).await);
            pairs::serve(Session::start(bytes), target, over).await;
        }
        Carrier::Channels { framing, ports } => {
            let socket = websocket::socket(connection).await;
            let (sender, receiver) = websocket::channels(socket, framing);
            tokio::select! {
                () = channels::serve(sender, receiver, &ports, &target) => {}
                () = over => {}
            }
        }
    }
}
