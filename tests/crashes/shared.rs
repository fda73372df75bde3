//! What the scenario's threads share.

use std::sync::atomic::AtomicBool;
use std::sync::{Mutex, MutexGuard};

use tokio::sync::RwLock;

use crate::support::ledger::Ledger;

/// What the scenario's threads share.
pub struct Shared {
    pub client: kube::Client,
    /// Held by everybody who writes, and by nobody while the whole is looked at.
    pub gate: RwLock<()>,
    pub stop: AtomicBool,
    pub maps: Mutex<Ledger>,
    pub deployments: Mutex<Ledger>,
    /// What broke a promise.
    pub broken: Mutex<Vec<String>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Shared {
    pub fn hold(&self, promise: Result<(), String>) {
        if let Err(why) = promise {
            eprintln!("BROKEN: {why}");
            lock(&self.broken).push(why);
        }
    }
}
