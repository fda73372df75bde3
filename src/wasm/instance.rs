//! A running program.

use crate::control::Control;
use crate::host::Core;
use crate::{Exit, Usage};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A started program. Cheap to clone; dropping a handle does not stop it (but
/// with the last [`crate::Host`] and the last handle all guests end).
#[derive(Clone)]
pub struct Instance {
    control: Arc<Control>,
    core: Arc<Core>,
}

impl Instance {
    pub(crate) fn new(control: Arc<Control>, core: Arc<Core>) -> Instance {
        Instance { control, core }
    }

    /// Waits for the end; gives every caller the same answer.
    pub async fn wait(&self) -> Exit {
        let mut exit = self.control.exit.subscribe();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_else(Exit::killed),
            // The sender is part of this handle, so this does not happen.
            Err(_) => Exit::killed(),
        }
    }

    /// The end, if it has come.
    pub fn exit(&self) -> Option<Exit> {
        self.control.exit.borrow().clone()
    }

    /// Where a `wasi:http` program listens.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.control.http_address
    }

    /// Second handles on the sockets on which it listens: as long as one is open, nobody who connects is refused,
    /// whatever becomes of this instance. None for a program that serves nothing, or no more.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub fn sockets(&self) -> std::io::Result<Vec<OwnedFd>> {
        let mut all = match self.control.listener.upgrade() {
            Some(listener) => listener.handles()?,
            None => Vec::new(),
        };
        all.extend(self.control.traffic.handles()?);
        Ok(all)
    }

    /// Asks it to end: a server stops accepting and ends, with code 0, once
    /// what it has begun is done; whatever still runs after `grace` is trapped
    /// (code 137). A program that serves nothing has no way to hear of it and
    /// runs on until then. Returns at once; see [`Instance::wait`]. Calling it
    /// again can shorten the grace, not lengthen it.
    pub fn stop(&self, grace: Duration) {
        self.control.stop.cancel();
        let control = self.control.clone();
        self.core.runtime().spawn(async move {
            let mut exit = control.exit.subscribe();
            // The end makes the rest of the grace pointless.
            if tokio::time::timeout(grace, exit.wait_for(Option::is_some))
                .await
                .is_err()
            {
                control.kill.cancel();
            }
        });
    }

    /// Ends it now (exit code 137).
    pub fn kill(&self) {
        self.control.kill.cancel();
    }

    /// Changes what it may use while it runs: bytes of memory, thousandths of a core. `None` leaves a limit
    /// as it is; memory that is held beyond a lower one stays, and the next growth ends the program.
    pub fn limit(&self, memory_bytes_max: Option<u64>, cpu_millis_max: Option<u32>) {
        self.control.account.limit(memory_bytes_max, cpu_millis_max);
    }

    /// What it uses and has used.
    pub fn usage(&self) -> Usage {
        self.control.account.usage()
    }
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Instance")
            .field("exit", &self.exit())
            .field("http_address", &self.http_address())
            .finish()
    }
}
