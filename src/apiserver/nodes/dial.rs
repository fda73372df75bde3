//! Raw connections into the cluster: to a pod, to what a Service leads to, to a
//! node's own port.
//!
//! ```text
//! what is asked for ─▶ an address, and the node that reaches it ─▶ that node's agent dials
//! ```
//!
//! A server alone has no route to any pod, and agents cannot be called: so
//! whatever the server itself wants from inside goes this way, proxies, webhooks
//! and aggregated APIs alike. Only an endpoint that belongs to no node is dialled
//! from here.

use std::fmt::Display;
use std::io;
use std::net::SocketAddr;

use api::request::{Request, ResourceRef, Verb};
use api::status::Status;
use base::{Random, SystemRandom};
use bytes::Bytes;
use client::ApiRef;
use client::link::DIAL;
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use super::route::{self, Elsewhere, Route};
use super::{NodeDialer, NodeLinks};
use crate::body::{Body, read, streamed};
use crate::own;

const BLOCK_BYTES: usize = 32 * 1024;
/// Blocks that may wait for a slow reader.
const WAITING: usize = 8;
/// How often a Service may be but a name for another.
const NAMES_MAX: usize = 8;
/// An agent's words about a failure are never longer.
const FAILURE_BYTES_MAX: usize = 64 * 1024;

/// Connects to what runs on the nodes. Cheap to clone.
#[derive(Clone)]
pub struct Dialer {
    api: ApiRef,
    nodes: NodeLinks,
}

/// A connection, and the address at its other end.
pub struct Dialled {
    /// The bytes.
    pub stream: DuplexStream,
    /// Whom it leads to.
    pub address: SocketAddr,
}

impl Dialer {
    /// A dialer that looks objects up through `api`.
    pub fn new(api: ApiRef, nodes: NodeLinks) -> Self {
        Self { api, nodes }
    }

    /// Connects to a port of a pod: by number or name; the first one of its containers when empty.
    ///
    /// # Errors
    /// 404 without the pod, 400 while it has no node or address, 503 when it cannot be reached.
    pub async fn pod(&self, namespace: &str, name: &str, port: &str) -> Result<Dialled, Status> {
        let pod = self.get("pods", namespace, name).await?;
        self.dial(route::to_pod(&pod, port)?).await
    }

    /// Connects to one of the ready endpoints of a Service: of its port by name or number, or of its only one.
    ///
    /// # Errors
    /// 404 without the Service, 503 without such a port or a ready endpoint, and when it cannot be reached.
    pub async fn service(&self, namespace: &str, name: &str, port: &str) -> Result<Dialled, Status> {
        let (mut namespace, mut name) = (namespace.to_owned(), name.to_owned());
        let mut service = self.get("services", &namespace, &name).await?;
        for _ in 0..NAMES_MAX {
            match route::elsewhere(&service) {
                None => break,
                Some(Elsewhere::Host(host)) => return self.external(&host, port).await,
                Some(Elsewhere::Service(place)) => (namespace, name) = place,
            }
            service = self.get("services", &namespace, &name).await?;
        }
        let place = ResourceRef::new("discovery.k8s.io", "v1", "endpointslices");
        let mut list = Request::new(own::user(), Verb::List, place, &namespace, "");
        list.options.label_selector = format!("kubernetes.io/service-name={name}");
        let slices = self.api.call(list).await?;
        let slices: Value = serde_json::from_slice(&slices.body.whole()).map_err(Status::internal)?;
        let mut routes = route::to_service(&service, &slices, port)?;
        // One that cannot be reached at this moment is not the end: another may.
        let mut failure = Status::unavailable(format!("no endpoints available for service {name:?}"));
        while !routes.is_empty() {
            let chosen = usize::try_from(SystemRandom.below(routes.len() as u64)).unwrap_or(0);
            match self.dial(routes.swap_remove(chosen)).await {
                Ok(dialled) => return Ok(dialled),
                Err(status) => failure = status,
            }
        }
        Err(failure)
    }

    /// Connects to a host outside the cluster, from here.
    async fn external(&self, host: &str, port: &str) -> Result<Dialled, Status> {
        let wrong = || Status::unavailable(format!("{port:?} is no port of a Service that is elsewhere"));
        let number: u16 = port.parse().map_err(|_| wrong())?;
        let found = tokio::net::lookup_host((host, number)).await;
        let address = found.ok().and_then(|mut found| found.next());
        let address = address.ok_or_else(|| unreachable(format!("dial tcp: lookup {host}: no such host")))?;
        self.dial(Route { node: None, address }).await
    }

    /// Connects to a port of a node itself.
    ///
    /// # Errors
    /// 404 without the node, 503 when it has no address or cannot be reached.
    pub async fn node(&self, name: &str, port: u16) -> Result<Dialled, Status> {
        let node = self.get("nodes", "", name).await?;
        self.dial(route::to_node(&node, port)?).await
    }

    async fn dial(&self, route: Route) -> Result<Dialled, Status> {
        let address = route.address;
        let (ours, theirs) = tokio::io::duplex(BLOCK_BYTES);
        match &route.node {
            Some(node) => self.through(node, address, theirs).await.map_err(unreachable)?,
            None => direct(address, theirs).await.map_err(unreachable)?,
        }
        Ok(Dialled {
            stream: ours,
            address,
        })
    }

    /// Has the node's agent connect, and carries bytes until both sides have ended.
    async fn through(&self, node: &str, address: SocketAddr, pipe: DuplexStream) -> Result<(), String> {
        let (to_agent, body) = channel();
        let uri = format!("/{DIAL}/{address}");
        let request = http::Request::builder().method(Method::POST).uri(uri).body(body);
        let request = request.map_err(|e| e.to_string())?;
        let response = self.nodes.request(node, request).await.map_err(|s| s.message)?;
        if response.status() != StatusCode::OK {
            return Err(failure(response.into_body()).await);
        }
        let (read, write) = tokio::io::split(pipe);
        tokio::spawn(outward(read, to_agent));
        tokio::spawn(inward(response.into_body(), write));
        Ok(())
    }

    async fn get(&self, plural: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let place = ResourceRef::new("", "v1", plural);
        let reply = self
            .api
            .call(Request::new(own::user(), Verb::Get, place, namespace, name))
            .await?;
        serde_json::from_slice(&reply.body.whole()).map_err(Status::internal)
    }
}

async fn direct(address: SocketAddr, mut pipe: DuplexStream) -> Result<(), String> {
    let connecting = tokio::net::TcpStream::connect(address).await;
    let mut stream = connecting.map_err(|error| dialling(&error, &address.to_string()))?;
    tokio::spawn(async move {
        // Whichever side breaks off, the other one sees its end.
        let _ = tokio::io::copy_bidirectional(&mut pipe, &mut stream).await;
    });
    Ok(())
}

/// The refusal when what a request was for cannot be reached.
pub fn unreachable(error: impl Display) -> Status {
    Status::unavailable(format!("error trying to reach service: {error}"))
}

/// A refusal to dial, a socket's error at that address, in the words of Go's libraries.
pub fn dialling(error: &io::Error, address: &str) -> String {
    let why = match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connect: connection reset by peer".to_owned(),
        io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".to_owned(),
        io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        io::ErrorKind::TimedOut => "i/o timeout".to_owned(),
        _ => error.to_string(),
    };
    format!("dial tcp {address}: {why}")
}

/// A body into which blocks are sent as they come; it ends when the sender is dropped.
fn channel() -> (mpsc::Sender<Bytes>, Body) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let chunks = futures_util::stream::unfold(receiver, |mut receiver: mpsc::Receiver<Bytes>| async move {
        receiver.recv().await.map(|bytes| (Ok(bytes), receiver))
    });
    (sender, streamed(chunks))
}

async fn outward(mut read: ReadHalf<DuplexStream>, out: mpsc::Sender<Bytes>) {
    let mut block = vec![0; BLOCK_BYTES];
    while let Ok(n @ 1..) = read.read(&mut block).await {
        let bytes = Bytes::copy_from_slice(block.get(..n).unwrap_or_default());
        if out.send(bytes).await.is_err() {
            return;
        }
    }
}

async fn inward(mut body: Body, mut write: WriteHalf<DuplexStream>) {
    while let Some(Ok(frame)) = body.frame().await {
        if let Ok(bytes) = frame.into_data()
            && write.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
    let _ = write.shutdown().await;
}

/// What an agent's refusal says.
async fn failure(body: Body) -> String {
    let body = read(body, FAILURE_BYTES_MAX).await.unwrap_or_default();
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) => status.message,
        Err(_) => String::from_utf8_lossy(&body).trim().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_read_as_gos() {
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(
            dialling(&refused, "10.0.0.1:443"),
            "dial tcp 10.0.0.1:443: connect: connection refused"
        );
    }
}
