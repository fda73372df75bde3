//! Collects the children that have ended, ours and those that were left to us.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ending {
    /// Exit code; 128 + signal for a signal.
    pub(super) code: i32,
    /// The signal that ended it.
    pub(super) signal: Option<i32>,
}

/// Who waits for which process.
#[derive(Clone, Default)]
pub(super) struct Reaper {
    waiting: Rc<RefCell<HashMap<i32, oneshot::Sender<Ending>>>>,
}

impl Reaper {
    /// Tells when a child has ended. To be called before the next await after
    /// the child was made, or the end may be collected before it is expected.
    pub(super) fn expect(&self, pid: Pid) -> oneshot::Receiver<Ending> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.borrow_mut().insert(pid.as_raw(), sender);
        receiver
    }

    /// Collects for ever.
    pub(super) async fn run(self) -> std::io::Result<()> {
        let mut children = signal(SignalKind::child())?;
        loop {
            self.collect();
            children.recv().await;
        }
    }

    fn collect(&self) {
        loop {
            let (pid, ending) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Ending { code, signal: None }),
                Ok(WaitStatus::Signaled(pid, by, _)) => (
                    pid,
                    Ending {
                        code: 128 + by as i32,
                        signal: Some(by as i32),
                    },
                ),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            if let Some(sender) = self.waiting.borrow_mut().remove(&pid.as_raw()) {
                // Whoever no longer waits does not mind.
                let _ = sender.send(ending);
            }
        }
    }
}
