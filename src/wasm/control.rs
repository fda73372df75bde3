//! What the handles of an instance and its task share.

use crate::limits::Account;
use crate::sockets::{Listener, Traffic};
use crate::state::Blueprint;
use crate::{Exit, ExitReason};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// What an instance's handles and its task share.
pub(crate) struct Control {
    pub(crate) stop: CancellationToken,
    pub(crate) kill: CancellationToken,
    pub(crate) exit: watch::Sender<Option<Exit>>,
    /// Why the guest itself made it end early.
    broken: OnceLock<Exit>,
    pub(crate) account: Arc<Account>,
    pub(crate) http_address: Option<SocketAddr>,
    /// Its sockets for as long as it accepts connections; whoever only controls it does not keep them open.
    pub(crate) listener: Weak<Listener>,
    /// What the guest itself listens on.
    pub(crate) traffic: Arc<Traffic>,
}

impl Control {
    pub(crate) fn new(blueprint: &Blueprint, listener: Option<&Arc<Listener>>) -> Control {
        Control {
            stop: CancellationToken::new(),
            kill: CancellationToken::new(),
            exit: watch::Sender::new(None),
            broken: OnceLock::new(),
            account: blueprint.account.clone(),
            http_address: listener.map(|listener| listener.address()),
            listener: listener.map(Arc::downgrade).unwrap_or_default(),
            traffic: blueprint.traffic.clone(),
        }
    }

    /// Ends it now, for a reason of its guest's that is to be told.
    pub(crate) fn break_off(&self, exit: Exit) {
        if self.broken.set(exit).is_ok() {
            self.kill.cancel();
        }
    }
}

/// Reports the end of an instance; held by its task. If the task ends in any
/// other way (a bug, the host's end), that is reported too, so that nobody
/// waits for ever.
pub(crate) struct Report(pub(crate) Arc<Control>);

impl Report {
    pub(crate) fn end(self, exit: Exit) {
        let exit = self.0.broken.get().cloned().unwrap_or(exit);
        self.0.exit.send_replace(Some(exit));
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.0.exit.send_if_modified(|exit| {
            let is_missing = exit.is_none();
            if is_missing {
                let message = match std::thread::panicking() {
                    true => "internal error of the wasm host, see its log",
                    false => "the wasm host has ended",
                };
                *exit = Some(Exit {
                    code: 137,
                    reason: ExitReason::Error,
                    message: message.into(),
                });
            }
            is_missing
        });
    }
}
