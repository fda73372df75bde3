//! What all clients share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use linear::Registers;
use serde_json::Value;
use tokio::sync::RwLock;

use crate::support::maps;

/// ConfigMaps that all clients write.
pub const KEYS: u64 = 4;

/// What all clients share.
pub struct Shared {
    pub began: Instant,
    pub stop: AtomicBool,
    /// Held by everybody who asks for something, and by nobody while a round is judged.
    pub gate: RwLock<()>,
    /// Counts the rounds, each of which has ConfigMaps of its own.
    pub round: AtomicU64,
    pub values: AtomicU64,
    pub registers: Mutex<Registers>,
    /// What broke a promise.
    pub broken: Mutex<Vec<String>>,
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl Shared {
    /// Microseconds since the beginning.
    pub fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).expect("less than many years")
    }

    pub fn hold(&self, promise: Result<(), String>) {
        if let Err(why) = promise {
            eprintln!("BROKEN: {why}");
            lock(&self.broken).push(why);
        }
    }

    /// The name of one of this round's ConfigMaps.
    pub fn key(&self, number: u64) -> String {
        format!("r{}-{number}", self.round.load(Ordering::Relaxed))
    }

    /// Whether a ConfigMap is of this round.
    pub fn is_current(&self, name: &str) -> bool {
        let prefix = format!("r{}-", self.round.load(Ordering::Relaxed));
        name.starts_with(&prefix)
    }

    pub fn value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// The value in a ConfigMap, and its revision.
pub fn shown(object: &Value) -> (u64, u64) {
    let value = object["data"]["v"].as_str().and_then(|text| text.parse().ok());
    (value.unwrap_or(0), maps::revision(object))
}
