//! A request on its way in.

use std::sync::Arc;

use api::request::{Notes, User};
use http::header::{HeaderName, USER_AGENT};
use http::{HeaderMap, Request};
use tokio::time::Instant;

use super::query::Query;
use super::until::Until;
use crate::body::Body;

/// A request on its way in, its user known.
pub struct Incoming {
    /// Who asks, impersonation included.
    pub user: User,
    /// The query, decoded.
    pub query: Query,
    /// The request itself; its body has been read, but for streams and what other servers answer.
    pub request: Request<Body>,
    /// When it began.
    pub began: Instant,
    /// What is noted on its way.
    pub notes: Notes,
    /// When its answer ends, if that lasts.
    pub until: Arc<Until>,
}

impl Incoming {
    /// The `User-Agent`; empty when there is none.
    pub fn user_agent(&self) -> &str {
        text(self.request.headers(), &USER_AGENT)
    }
}

/// A header's text; empty when absent or no text.
pub fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
