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

mod body;
pub mod dial;
mod forward;
mod logs;
mod node;
mod query;
mod service;
mod streams;

use api::status::Status;
use bytes::Bytes;
use client::link::{DIAL, NODE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Body as HttpBody;

use body::whole;
pub use body::{Body, BoxError};
use query::Query;
pub use service::LinkService;

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
}

fn refusal(status: &Status) -> Response<Body> {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Response::new(whole(status.to_value().to_string()));
    *response.status_mut() = code;
    let json = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, json);
    response
}

#[cfg(test)]
mod tests;
