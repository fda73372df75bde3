//! A running program.

use crate::{Exit, Usage};
use std::net::SocketAddr;
use std::time::Duration;

/// A started program. Cheap to clone; dropping the last handle does not stop it.
#[derive(Clone)]
pub struct Instance {}

impl Instance {
    /// Waits for the end; returns the same answer to every caller.
    pub async fn wait(&self) -> Exit {
        todo!()
    }

    /// The end, if it has come.
    pub fn exit(&self) -> Option<Exit> {
        todo!()
    }

    /// Where a `wasi:http` program listens.
    pub fn http_address(&self) -> Option<SocketAddr> {
        todo!()
    }

    /// Asks it to end: a server stops accepting and drains, and whatever still
    /// runs after `grace` is trapped. A program that is no server has no way to
    /// hear of it, so it runs on until then. Returns at once; see [`Instance::wait`].
    pub fn stop(&self, _grace: Duration) {
        todo!()
    }

    /// Ends it now (exit code 137).
    pub fn kill(&self) {
        todo!()
    }

    /// What it uses and has used.
    pub fn usage(&self) -> Usage {
        todo!()
    }
}
