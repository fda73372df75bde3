//! Calling a plugin.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;
use tonic::body::Body;
use tonic::client::Grpc;
use tonic::{Request, Status};

use crate::proto::Proto;

/// One question with one answer: the request's type says the method and what comes back.
pub trait Call: Message + Default + 'static {
    /// `/PACKAGE.SERVICE/METHOD`.
    const METHOD: &'static str;
    /// What comes back.
    type Reply: Message + Default + 'static;
}

/// Says which method each request is for, and what comes back.
#[macro_export]
macro_rules! calls {
    ($($request:ty => $method:literal => $reply:ty;)*) => {
        $(impl $crate::Call for $request {
            const METHOD: &'static str = $method;
            type Reply = $reply;
        })*
    };
}

/// A plugin that listens on a unix socket. Connected when it is first called, and anew when the connection
/// has ended: plugins come and go. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Plugin {
    path: PathBuf,
    // A std mutex: nothing awaits while it is held.
    connection: Arc<Mutex<Option<SendRequest<Body>>>>,
}

/// A connection as something that takes requests.
#[derive(Clone, Debug)]
struct Requests(SendRequest<Body>);

impl tower::Service<http::Request<Body>> for Requests {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

impl Plugin {
    /// The plugin whose socket is `path`.
    pub fn at(path: &Path) -> Plugin {
        Plugin {
            path: path.to_owned(),
            connection: Arc::default(),
        }
    }

    /// Where it listens.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Asks, and waits for the answer no longer than `patience`.
    ///
    /// # Errors
    /// What the plugin said, `Unavailable` when nobody listens, or `DeadlineExceeded`.
    pub async fn call<C: Call>(&self, request: C, patience: Duration) -> Result<C::Reply, Status> {
        let answer = tokio::time::timeout(patience, self.ask(request)).await;
        answer.unwrap_or_else(|_| Err(Status::deadline_exceeded("context deadline exceeded")))
    }

    /// Asks what has an answer that goes on: its parts come when the plugin has something to say.
    ///
    /// # Errors
    /// What the plugin said, or `Unavailable` when nobody listens. There is no deadline.
    pub async fn watch<C: Call>(&self, request: C) -> Result<tonic::Streaming<C::Reply>, Status> {
        let mut grpc = self.ready().await?;
        let method = PathAndQuery::from_static(C::METHOD);
        let codec: Proto<C, C::Reply> = Proto::default();
        let reply = grpc
            .server_streaming(Request::new(request), method, codec)
            .await?;
        Ok(reply.into_inner())
    }

    async fn ask<C: Call>(&self, request: C) -> Result<C::Reply, Status> {
        let mut grpc = self.ready().await?;
        let method = PathAndQuery::from_static(C::METHOD);
        let codec: Proto<C, C::Reply> = Proto::default();
        let reply = grpc.unary(Request::new(request), method, codec).await?;
        Ok(reply.into_inner())
    }

    /// The connection, when it takes a call.
    async fn ready(&self) -> Result<Grpc<Requests>, Status> {
        let connection = self.connection().await?;
        // A name is asked for; there is none for a socket.
        let mut grpc = Grpc::with_origin(Requests(connection), http::Uri::from_static("http://localhost"));
        let unready = |error: hyper::Error| Status::unavailable(error.to_string());
        grpc.ready().await.map_err(unready)?;
        Ok(grpc)
    }

    async fn connection(&self) -> Result<SendRequest<Body>, Status> {
        let known = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some(open) = known.filter(|known| !known.is_closed()) {
            return Ok(open);
        }
        let failed = |error: &dyn std::fmt::Display| {
            Status::unavailable(format!(
                "connection error: dial unix {}: {error}",
                self.path.display()
            ))
        };
        let stream = UnixStream::connect(&self.path)
            .await
            .map_err(|error| failed(&error))?;
        let made = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = made.map_err(|error| failed(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a plugin's connection ended");
            }
        });
        let mut kept = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some(sender.clone());
        Ok(sender)
    }
}
