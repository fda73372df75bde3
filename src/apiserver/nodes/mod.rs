//! The server's way to its nodes: a call in the same process, or HTTP/2 over
//! the connection that the agent dialled.

mod dial;
mod route;
mod sender;
mod tunnel;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use api::status::Status;
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::watch;

use crate::body::{Body, BoxError};
pub use dial::{Dialer, Dialled};
pub(crate) use dial::{dialling, unreachable};

/// Sends a request to the agent of a node. Paths are the agent's own, such as
/// `/logs/{namespace}/{pod}/{container}`.
#[async_trait]
pub trait NodeDialer: Send + Sync + 'static {
    /// The agent's answer; 503 when the node has no connection.
    async fn request(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, Status>;
}

/// An agent's HTTP service, without a connection in between.
pub(crate) type LocalNode =
    Arc<dyn Fn(Request<Body>) -> BoxFuture<'static, Result<Response<Body>, BoxError>> + Send + Sync>;

#[derive(Clone)]
enum Link {
    Local(LocalNode),
    Remote { id: u64, sender: sender::Sender },
}

/// Which nodes can be reached, and how. Cheap to clone.
#[derive(Clone, Default)]
pub struct NodeLinks {
    // A std mutex: nothing awaits while it is held.
    links: Arc<Mutex<Links>>,
}

struct Links {
    /// A node may have several, for a moment or because it reaches this server by two addresses; the
    /// latest is used.
    by_node: HashMap<String, Vec<Link>>,
    next_id: u64,
    connected: watch::Sender<usize>,
}

impl Default for Links {
    fn default() -> Self {
        Self {
            by_node: HashMap::new(),
            next_id: 0,
            connected: watch::Sender::new(0),
        }
    }
}

impl NodeLinks {
    /// No node yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the agent of a node in this process, which is called as `service(request)`;
    /// takes the place of earlier links of that name.
    pub fn register_local<F, Answer, B, E>(&self, node: &str, service: F)
    where
        F: Fn(Request<Body>) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = Result<Response<B>, E>> + Send + 'static,
        E: Into<BoxError>,
        B: hyper::body::Body<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        let call: LocalNode = Arc::new(move |request| {
            let answer = service(request);
            Box::pin(async move {
                let response = answer.await.map_err(|error| error.into())?;
                Ok(response.map(|body| body.map_err(|error| error.into()).boxed()))
            })
        });
        self.unregister(node);
        self.insert(node, Link::Local(call));
    }

    /// Forgets a node.
    pub fn unregister(&self, node: &str) {
        let mut links = self.lock();
        links.by_node.remove(node);
        let count = links.by_node.len();
        links.connected.send_replace(count);
    }

    /// Whether there is a way to that node.
    pub fn connected(&self, node: &str) -> bool {
        self.lock().by_node.contains_key(node)
    }

    /// The nodes that can be reached, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.lock().by_node.keys().cloned().collect();
        names.sort();
        names
    }

    fn insert(&self, node: &str, link: Link) {
        let mut links = self.lock();
        links.by_node.entry(node.to_owned()).or_default().push(link);
        let count = links.by_node.len();
        links.connected.send_replace(count);
    }

    fn lock(&self) -> MutexGuard<'_, Links> {
        self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[async_trait]
impl NodeDialer for NodeLinks {
    async fn request(&self, node: &str, request: Request<Body>) -> Result<Response<Body>, Status> {
        let link = self
            .lock()
            .by_node
            .get(node)
            .and_then(|links| links.last().cloned());
        let answer = match link {
            Some(Link::Local(call)) => call(request).await,
            Some(Link::Remote { sender, .. }) => sender::send(sender, request).await,
            None => return Err(Status::unavailable(format!("no connection to node {node:?}"))),
        };
        answer.map_err(|error| Status::unavailable(format!("node {node:?} did not answer: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::{Full, combinators::BoxBody};
    use std::convert::Infallible;

    pub(super) fn text(body: &'static str) -> Body {
        BoxBody::new(Full::new(Bytes::from_static(body.as_bytes())).map_err(|never| match never {}))
    }

    #[tokio::test]
    async fn a_local_node_is_called_directly_and_a_missing_one_is_503() {
        let links = NodeLinks::new();
        links.register_local("a", |request: Request<Body>| async move {
            let path = request.uri().path().to_owned();
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(path))))
        });
        let request = Request::get("/logs/ns/pod/c").body(text("")).unwrap();
        let response = links.request("a", request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(&body[..], b"/logs/ns/pod/c");
        let error = links
            .request("b", Request::get("/").body(text("")).unwrap())
            .await
            .unwrap_err();
        assert_eq!(error.code, 503);
        links.unregister("a");
        assert!(!links.connected("a"));
    }
}
