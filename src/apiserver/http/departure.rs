//! How a server goes: first it says that it is not ready, then it turns new requests away and lets open ones end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use api::status::Status;
use http::Response;
use http::header::{CONNECTION, HeaderValue};
use tokio::sync::Notify;

use super::reply;
use crate::body::Body;
use crate::health::Probe;

/// The stages of going, and who is still being answered.
#[derive(Default)]
pub struct Departure {
    going: AtomicBool,
    refusing: AtomicBool,
    open: AtomicUsize,
    ended: Notify,
}

/// A request that is being answered, until this is dropped.
pub struct Open(Arc<Departure>);

impl Departure {
    /// From now on the server says that it is not ready. It goes on answering.
    pub fn begin(&self) {
        self.going.store(true, Ordering::SeqCst);
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.going.load(Ordering::SeqCst)
    }

    /// Lets a request in; `None` when it must ask elsewhere, or later. Probes are always answered.
    pub fn enter(self: &Arc<Self>, path: &str) -> Option<Open> {
        // Counted before it is looked: whoever waits for the last to end must not miss this one.
        self.open.fetch_add(1, Ordering::SeqCst);
        let open = Open(self.clone());
        let refused = self.refusing.load(Ordering::SeqCst) && Probe::of(path).is_none();
        (!refused).then_some(open)
    }

    /// Turns requests away from now on, and waits until the open ones have been answered, at most for `patience`.
    pub async fn finish(&self, patience: Duration) {
        self.refusing.store(true, Ordering::SeqCst);
        let empty = async {
            loop {
                let ended = self.ended.notified();
                if self.open.load(Ordering::SeqCst) == 0 {
                    return;
                }
                ended.await;
            }
        };
        if tokio::time::timeout(patience, empty).await.is_err() {
            tracing::info!(open = self.open.load(Ordering::SeqCst), "requests are still open");
        }
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.0.open.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.ended.notify_waiters();
        }
    }
}

/// The answer to one who comes too late.
pub fn refusal() -> Response<Body> {
    let text = "The apiserver is shutting down, please try again later.";
    let mut response = reply::failure(&Status {
        message: text.into(),
        ..reply::busy()
    });
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_request_ends_before_the_server() {
        let departure = Arc::new(Departure::default());
        let open = departure.enter("/api/v1/pods").unwrap();
        departure.begin();
        assert!(departure.has_begun());
        drop(departure.enter("/api/v1/pods").expect("it still answers"));
        let waiter = tokio::spawn({
            let departure = departure.clone();
            async move { departure.finish(Duration::from_secs(60)).await }
        });
        while departure.enter("/api/v1/pods").is_some() {
            tokio::task::yield_now().await;
        }
        assert!(departure.enter("/readyz").is_some());
        assert!(!waiter.is_finished());
        drop(open);
        waiter.await.unwrap();
        departure.finish(Duration::ZERO).await;
    }

    #[test]
    fn who_comes_too_late_is_told_to_come_back() {
        let response = refusal();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "1");
    }
}
