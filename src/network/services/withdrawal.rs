//! A pod that is to end is taken out of the balancing first: new connections
//! must go elsewhere before it is told to stop.

use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::oneshot;

use super::Services;
use crate::catalog::Standing;

/// How long other nodes are given to learn the same, and connections that are
/// on their way to arrive.
const SETTLE: Duration = Duration::from_millis(300);

impl Services {
    /// Waits until nothing on this node, kernel or guests, leads new
    /// connections to that pod unless there is nobody else; at once if it is no
    /// endpoint. Takes as long as the control plane does, which may be away: bound it.
    pub async fn withdrawn(&self, ip: IpAddr, uid: &str) {
        let mut changes = self.catalog.changes();
        self.catalog.synced().await;
        loop {
            let standing = self.catalog.read().standing(ip, uid);
            match standing {
                Standing::Stranger => return,
                Standing::Leaving => break,
                Standing::Active => {}
            }
            if changes.recv().await.is_none() {
                return;
            }
        }
        drop(changes);
        tokio::time::sleep(SETTLE).await;
        self.caught_up().await;
    }

    /// Waits until what the catalog has told so far is carried out on this node.
    pub async fn caught_up(&self) {
        let (done, is_done) = oneshot::channel();
        // An error means that the task ended: nothing to wait for any more.
        if self.questions.send(done).is_ok() {
            let _ = is_done.await;
        }
    }
}
