//! Connections that nobody uses: they cost memory and a place among the guests, and end after a while.
//!
//! What HTTP/1.1 waits for, hyper bounds itself, from the first byte on. So here it is counted what goes on over HTTP/2,
//! and whether anything was asked at all.

use std::time::Duration;

use tokio::sync::watch;

/// How long a connection may say nothing after its handshake.
const FIRST_WITHIN: Duration = Duration::from_secs(30);
/// How long one may rest between two requests, as with Kubernetes' server; its clients' idle connections last as long.
const IDLE_MAX: Duration = Duration::from_secs(90);

/// What goes on over a connection.
#[derive(Clone)]
pub struct Use {
    // How many requests are under way.
    busy: watch::Sender<usize>,
}

/// A request under way, until it is dropped.
pub struct Busy(Use);

impl Use {
    /// Of a connection over which nothing was asked yet.
    pub fn new() -> Self {
        Self {
            busy: watch::Sender::new(0),
        }
    }

    /// A request has come.
    pub fn begin(&self) -> Busy {
        self.busy.send_modify(|count| *count += 1);
        Busy(self.clone())
    }

    /// The connection is looked after by others from now on.
    pub fn leave_to_others(&self) {
        self.busy.send_modify(|count| *count += 1);
    }

    /// Returns when the connection was without use for too long.
    pub async fn end(&self) {
        self.unused_for(FIRST_WITHIN, IDLE_MAX).await;
    }

    async fn unused_for(&self, first: Duration, later: Duration) {
        let mut busy = self.busy.subscribe();
        let mut patience = first;
        loop {
            let came = tokio::time::timeout(patience, busy.wait_for(|count| *count > 0));
            if came.await.is_err() {
                return;
            }
            // What is waited for is here as long as this is, so that waiting itself cannot fail.
            let _ = busy.wait_for(|count| *count == 0).await;
            patience = later;
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.send_modify(|count| *count -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::poll;

    const NONE: Duration = Duration::ZERO;
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn silence_and_rest_end() {
        Use::new().unused_for(NONE, LONG).await;

        let used = Use::new();
        let (first, second) = (used.begin(), used.begin());
        let end = used.unused_for(LONG, NONE);
        tokio::pin!(end);
        assert!(poll!(end.as_mut()).is_pending());
        drop(first);
        assert!(poll!(end.as_mut()).is_pending());
        drop(second);
        end.await;
    }

    #[tokio::test]
    async fn what_others_look_after_never_ends_here() {
        let used = Use::new();
        used.leave_to_others();
        let end = used.unused_for(NONE, NONE);
        tokio::pin!(end);
        for _ in 0..10 {
            assert!(poll!(end.as_mut()).is_pending());
            tokio::task::yield_now().await;
        }
    }
}
