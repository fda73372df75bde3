//! `pods/NAME/portforward`: each pair of SPDY streams is one TCP connection
//! into the pod. SPDY comes by itself or inside a WebSocket.

use std::collections::HashMap;
use std::sync::Arc;

use api::status::Status;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::header::SEC_WEBSOCKET_PROTOCOL;
use http::{Method, Response};
use http_body_util::BodyExt;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;

use super::spdy::{Session, Stream};
use super::upgrade::{self, Wanted};
use super::{Incoming, link, pod, websocket};
use crate::http::Door;
use crate::http::path::ResourcePath;
use crate::nodes::Body;

const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const PROTOCOL: &str = "portforward.k8s.io";
/// Pairs of which only one stream has come so far.
const HALVES_MAX: usize = 256;

/// Where the connections lead.
#[derive(Clone)]
struct Target {
    door: Arc<Door>,
    node: String,
    namespace: String,
    pod: String,
    uid: String,
}

/// Forwards connections until the client is gone.
pub async fn answer(
    door: &Arc<Door>,
    path: &ResourcePath,
    incoming: Incoming,
) -> Result<Response<Body>, Status> {
    let mut request = incoming.request;
    let wanted = upgrade::required(request.version(), request.headers())?;
    let response = match wanted {
        Wanted::WebSocket => {
            let protocol = upgrade::choose(request.headers(), &SEC_WEBSOCKET_PROTOCOL, &[TUNNELLED])?;
            upgrade::to_websocket(request.headers(), protocol)?
        }
        Wanted::Spdy => upgrade::to_spdy(upgrade::choose(
            request.headers(),
            &upgrade::STREAM_PROTOCOL,
            &[PROTOCOL],
        )?),
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
    let stop = door.stop.clone();
    tokio::spawn(async move {
        let Ok(connection) = upgraded.await else { return };
        tokio::select! {
            () = serve(connection, wanted, target) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(response)
}

async fn serve(connection: Upgraded, wanted: Wanted, target: Target) {
    let mut session = match wanted {
        Wanted::WebSocket => Session::start(websocket::bytes(websocket::socket(connection).await)),
        Wanted::Spdy => Session::start(TokioIo::new(connection)),
    };
    let mut pairs = Pairs::default();
    while let Some(stream) = session.accept().await {
        if let Some((data, error)) = pairs.add(stream) {
            tokio::spawn(carry(target.clone(), data, error));
        }
    }
}

/// Streams that wait for the other one of their pair.
#[derive(Default)]
struct Pairs {
    waiting: HashMap<String, Stream>,
}

impl Pairs {
    /// Data and error stream of a pair that is now complete.
    fn add(&mut self, stream: Stream) -> Option<(Stream, Stream)> {
        // Clients older than request ids open the two of a port one after the other.
        let id = match stream.header("requestid") {
            "" => format!("port {}", stream.header("port")),
            id => id.to_owned(),
        };
        let is_data = stream.header("streamtype") == "data";
        match self.waiting.remove(&id) {
            Some(other) if (other.header("streamtype") == "data") != is_data => {
                Some(if is_data { (stream, other) } else { (other, stream) })
            }
            _ if self.waiting.len() >= HALVES_MAX => None,
            _ => {
                self.waiting.insert(id, stream);
                None
            }
        }
    }
}

fn carry(target: Target, data: Stream, error: Stream) -> BoxFuture<'static, ()> {
    Box::pin(carried(target, data, error))
}

async fn carried(target: Target, data: Stream, error: Stream) {
    let port = data.header("port").to_owned();
    if let Err(why) = connection(&target, &port, data).await {
        let Target { pod, uid, .. } = &target;
        let text = format!(
            "an error occurred forwarding {port} -> {port}: error forwarding port {port} to pod {pod}, uid {uid}: {why}"
        );
        // Fails only when the client is gone, which needs no words.
        let _ = error.writer.write(text.into()).await;
    }
    let _ = error.writer.finish().await;
}

async fn connection(target: &Target, port: &str, data: Stream) -> Result<(), String> {
    let Stream {
        mut received, writer, ..
    } = data;
    let uri = link::uri(
        &["portforward", &target.namespace, &target.pod],
        &[("port", port)],
    );
    let (to_pod, body) = link::channel();
    let asked = link::ask(&target.door, &target.node, Method::POST, &uri, body).await;
    let mut from_pod = match asked {
        Ok(answer) => answer.into_body(),
        Err(status) => {
            let _ = writer.reset().await;
            return Err(status.message);
        }
    };
    let upward = async move {
        while let Some(bytes) = received.recv().await {
            if to_pod.send(bytes).await.is_err() {
                return;
            }
        }
    };
    let downward = async {
        while let Some(frame) = from_pod.frame().await {
            let bytes: Bytes = frame.map_err(|e| e.to_string())?.into_data().unwrap_or_default();
            if writer.write(bytes).await.is_err() {
                break;
            }
        }
        let _ = writer.finish().await;
        Ok(())
    };
    // The pod's end of the connection decides: a client that has said all it wanted to say
    // still waits for the answer.
    tokio::pin!(downward);
    tokio::select! {
        ended = &mut downward => ended,
        () = upward => downward.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_paired_by_request() {
        let stream = |kind: &str, id: &str| {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            let headers = vec![
                pair("streamtype", kind),
                pair("port", "80"),
                pair("requestid", id),
            ];
            super::super::spdy::Stream::for_tests(headers)
        };
        let mut pairs = Pairs::default();
        assert!(pairs.add(stream("error", "0")).is_none());
        assert!(pairs.add(stream("error", "1")).is_none());
        let (data, error) = pairs.add(stream("data", "0")).unwrap();
        assert_eq!(
            (data.header("streamtype"), error.header("requestid")),
            ("data", "0")
        );
        assert_eq!(pairs.waiting.len(), 1);
    }
}
