//! Listening sockets that outlive a guest: what an earlier run of its program has left is put in the place of what it
//! binds at the same address, so that who has connected in between is answered.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// What a guest has not bound again by then it will not: whoever connects is to be refused rather than to wait.
const UNCLAIMED_MAX: Duration = Duration::from_secs(60);

/// What was left to a guest, until it binds the address again.
#[derive(Debug)]
pub(crate) struct Heirlooms(Mutex<Vec<TcpListener>>);

impl Heirlooms {
    pub(crate) fn new(left: Vec<TcpListener>) -> Heirlooms {
        Heirlooms(Mutex::new(left))
    }

    /// The one at an address, once.
    pub(super) fn take(&self, address: SocketAddr) -> Option<TcpListener> {
        let mut left = self.lock();
        let here = |socket: &TcpListener| socket.local_addr().is_ok_and(|bound| bound == address);
        left.iter().position(here).map(|at| left.swap_remove(at))
    }

    /// Closes in time what nobody has taken.
    pub(crate) async fn give_up(&self) -> Infallible {
        if !self.lock().is_empty() {
            tokio::time::sleep(UNCLAIMED_MAX).await;
            self.lock().clear();
        }
        std::future::pending().await
    }

    // A std mutex: nothing awaits while it is held.
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<TcpListener>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
