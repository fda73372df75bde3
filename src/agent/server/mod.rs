//! What the API server asks of a node: logs, exec, attach, port-forward,
//! proxy. One function from request to response, called in the same process
//! or over the connection that [`dial`] keeps open.
//!
//! ```text
//! GET  /logs/NS/POD/CONTAINER?follow&previous&tailLines&sinceSeconds&sinceTime&timestamps&limitBytes
//! POST /exec/NS/POD/CONTAINER?command=..&command=..&stdin&stdout&stderr&tty    frames both ways
//! POST /attach/NS/POD/CONTAINER?stdin&stdout&stderr&tty                        frames both ways
//! POST /portforward/NS/POD?port=N                                             one TCP connection
//! POST /dial/HOST:PORT                                                        one TCP connection
//! GET  /node/healthz|pods|containerLogs/NS/POD/CONTAINER                      as a kubelet answers
//! ```

pub mod dial;
mod forward;
mod logs;
mod node;
mod query;
mod streams;

use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::Poll;

use api::status::Status;
use bytes::Bytes;
use client::link::{DIAL, NODE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body as HttpBody, Frame};
use tokio::sync::mpsc;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::pods::table::{PodTable, PodView};
use query::Query;

/// What can go wrong with a streamed body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of unknown make.
pub type Body = BoxBody<Bytes, BoxError>;

/// The node's side of the link to the API server. Cheap to clone.
#[derive(Clone)]
pub struct LinkService {
    pub(crate) table: PodTable,
    /// Empty until the node's network is up.
    pub(crate) context: Arc<OnceLock<Arc<Context>>>,
    pub(crate) certificate: Certificate,
}

/// A pod that was asked for.
struct Target {
    view: tokio::sync::watch::Receiver<PodView>,
    container: String,
}

impl LinkService {
    /// Answers a request. Failures are `Status` objects.
    pub async fn handle<B>(&self, request: Request<B>) -> Response<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Sync + 'static,
        B::Error: Into<BoxError>,
    {
        let request = request.map(|body| body.map_err(Into::into).boxed());
        self.route(request)
            .await
            .unwrap_or_else(|status| refusal(&status))
    }

    async fn route(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let path = request.uri().path().to_owned();
        let query = Query::parse(request.uri().query().unwrap_or_default());
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let (get, post) = (request.method() == Method::GET, request.method() == Method::POST);
        match parts.as_slice() {
            ["logs", namespace, pod, container] if get => {
                let target = self.target(namespace, pod, container)?;
                logs::answer(self.node()?, &target, &query)
            }
            ["exec", namespace, pod, container] if post => {
                let target = self.target(namespace, pod, container)?;
                streams::exec(self.node()?, &target, &query, request.into_body()).await
            }
            ["attach", namespace, pod, container] if post => {
                let target = self.target(namespace, pod, container)?;
                streams::attach(self.node()?, &target, &query, request.into_body()).await
            }
            ["portforward", namespace, pod] if post => {
                let target = self.target(namespace, pod, "")?;
                forward::answer(&target, &query, request.into_body()).await
            }
            [DIAL, address] if post => forward::dial(address, request.into_body()).await,
            [NODE, rest @ ..] if get => node::answer(self, rest, &query).await,
            _ => Err(Status::no_such_path()),
        }
    }

    fn node(&self) -> Result<&Arc<Context>, Status> {
        self.context
            .get()
            .ok_or_else(|| Status::unavailable("the node is still starting"))
    }

    /// The pod, and the container: the one named, or the first.
    fn target(&self, namespace: &str, name: &str, container: &str) -> Result<Target, Status> {
        let view = self
            .table
            .find(namespace, name)
            .ok_or_else(|| Status::not_found("", "pods", name))?;
        let first = || {
            let view = view.borrow();
            crate::pods::spec::main_containers(&view.pod)
                .next()
                .map(|c| c.name.clone())
                .unwrap_or_default()
        };
        let container = if container.is_empty() {
            first()
        } else {
            container.to_owned()
        };
        Ok(Target { view, container })
    }
}

impl Target {
    /// The id of the running container, with its scheme.
    fn running(&self) -> Result<String, Status> {
        let view = self.view.borrow();
        let found = view
            .containers
            .get(&self.container)
            .and_then(|c| c.container_id.clone());
        found.ok_or_else(|| {
            let text = format!(
                "unable to upgrade connection: container not found ({:?})",
                self.container
            );
            Status::new(500, "InternalError", text)
        })
    }
}

fn refusal(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(whole(status.to_value().to_string()));
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

fn whole(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// A body of what comes through a channel.
fn streamed(receiver: mpsc::Receiver<Result<Bytes, BoxError>>) -> Body {
    Channel(receiver).boxed()
}

struct Channel(mpsc::Receiver<Result<Bytes, BoxError>>);

impl HttpBody for Channel {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.0
            .poll_recv(context)
            .map(|item| item.map(|bytes| bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests;
