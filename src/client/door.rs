//! The trait behind which the API stands.

use std::sync::Arc;

use api::request::{EventStream, Reply, Request};
use api::status::Status;
use async_trait::async_trait;

/// The API, in this process or behind a connection.
///
/// `request.user` is honoured in-process and ignored by the HTTP
/// implementation, where the connection's credentials speak.
#[async_trait]
pub trait Api: Send + Sync + 'static {
    /// Carries out any request but a watch.
    async fn call(&self, request: Request) -> Result<Reply, Status>;

    /// Follows a collection; `request.verb` is `Watch`.
    async fn watch(&self, request: Request) -> Result<EventStream, Status>;
}

/// A shared [`Api`].
pub type ApiRef = Arc<dyn Api>;
