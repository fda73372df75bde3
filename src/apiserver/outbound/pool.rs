//! Connections that were used and may be used again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http1::SendRequest;

use super::endpoint::Endpoint;

/// Sends requests over one connection, one after another.
pub type Sender = SendRequest<Full<Bytes>>;

/// How many idle connections are kept for one endpoint.
const IDLE_MAX: usize = 8;
/// How long one is kept that nobody uses.
const IDLE_FOR: Duration = Duration::from_secs(60);

/// Idle connections by where they lead.
#[derive(Default)]
pub struct Pool {
    // A std mutex: nothing awaits while it is held.
    idle: Mutex<HashMap<Endpoint, Vec<(Instant, Sender)>>>,
}

impl Pool {
    /// A connection that was still open when last looked at.
    pub fn take(&self, endpoint: &Endpoint) -> Option<Sender> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = idle.get_mut(&key(endpoint))?;
        while let Some((since, sender)) = kept.pop() {
            if !sender.is_closed() && since.elapsed() < IDLE_FOR {
                return Some(sender);
            }
        }
        None
    }

    /// Keeps a connection whose answer was read to its end, and lets go of those that nobody used for long.
    pub fn put(&self, endpoint: &Endpoint, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|_, kept| {
            kept.retain(|(since, sender)| since.elapsed() < IDLE_FOR && !sender.is_closed());
            !kept.is_empty()
        });
        let kept = idle.entry(key(endpoint)).or_default();
        if kept.len() < IDLE_MAX {
            kept.push((Instant::now(), sender));
        }
    }
}

/// One connection serves every path.
fn key(endpoint: &Endpoint) -> Endpoint {
    Endpoint {
        path: String::new(),
        ..endpoint.clone()
    }
}
