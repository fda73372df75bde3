//! The server as a service in its own process, for embedders: the same requests
//! and answers as over the network, by a user that is known from the start.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use api::request::User;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;

use super::door::{Caller, Door};
use super::handler;
use crate::body::SyncStream;
use crate::body::{Body, BoxError};

/// A [`tower::Service`] that answers as the server does, for one user.
#[derive(Clone)]
pub struct LocalService {
    door: Arc<Door>,
    user: User,
}

impl LocalService {
    pub(crate) fn new(door: Arc<Door>, user: User) -> Self {
        Self { door, user }
    }
}

impl<B> tower::Service<Request<B>> for LocalService
where
    B: hyper::body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (door, caller) = (self.door.clone(), Caller::Local(self.user.clone()));
        let request = request.map(|body| SyncStream::body(body.map_err(Into::into)));
        Box::pin(async move { Ok(handler::handle(door, caller, request).await) })
    }
}
