//! What the scenarios have in common.

pub mod cluster;
pub mod cosign;
pub mod disks;
pub mod extension;
pub mod guests;
pub mod hosts;
pub mod images;
pub mod instances;
pub mod latency;
pub mod ledger;
pub mod leftovers;
pub mod load;
pub mod machine;
pub mod manifests;
pub mod maps;
pub mod nfs;
pub mod peer;
pub mod pod;
pub mod program;
pub mod reboot;
pub mod registry;
pub mod rest;
pub mod running;
pub mod said;
pub mod sandbox;
pub mod servers;
pub mod tools;
pub mod udp;
pub mod unfinished;
pub mod watcher;
pub mod webhook;

use std::time::{Duration, Instant};

pub use cluster::Cluster;
pub use sandbox::sandboxed;

/// A deadline that only something broken misses: the machine may be busy with other scenarios.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// From one look to the next.
const PAUSE: Duration = Duration::from_millis(50);

/// Waits until `check` gives something, or fails with what it said last.
pub fn eventually<T>(what: &str, check: impl FnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, check)
}

/// How many times as long as elsewhere things may take: for machines that are emulated.
pub fn slowness() -> u32 {
    let asked = std::env::var("CORACLE_SLOWNESS");
    asked.map_or(1, |times| times.parse().expect("CORACLE_SLOWNESS is a number"))
}

/// [`eventually`] with a deadline of one's own.
pub fn within<T>(deadline: Duration, what: &str, mut check: impl FnMut() -> Result<T, String>) -> T {
    let deadline = deadline * slowness();
    let began = Instant::now();
    loop {
        let looked = Instant::now();
        match check() {
            Ok(value) => return value,
            Err(last) if began.elapsed() > deadline => panic!("{what}: not within {deadline:?}: {last}"),
            // Where a look takes seconds, what is waited for would have no time left beside it.
            Err(_) if slowness() > 1 => std::thread::sleep(looked.elapsed().max(PAUSE)),
            Err(_) => std::thread::sleep(PAUSE),
        }
    }
}

/// `Ok` if `text` contains all of `words`, else the text.
pub fn has(text: &str, words: &[&str]) -> Result<(), String> {
    match words.iter().find(|word| !text.contains(**word)) {
        None => Ok(()),
        Some(missing) => Err(format!("no {missing:?} in:\n{text}")),
    }
}

/// Fails unless `text` contains all of `words`.
#[track_caller]
pub fn assert_has(text: &str, words: &[&str]) {
    if let Err(why) = has(text, words) {
        panic!("{why}");
    }
}
