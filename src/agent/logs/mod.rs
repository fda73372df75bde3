//! Container logs in CRI format: written here for Wasm containers, by the shim
//! for OCI ones, read here for both.
//!
//! ```text
//! 2026-11-21T19:01:43.123456789Z stdout F a whole line
//! 2026-11-21T19:01:43.123456790Z stderr P a piece of a line that
//! 2026-11-21T19:01:43.123456791Z stderr F  goes on
//! ```

pub mod reader;
pub mod writer;

use std::path::Path;

/// Removes the logs of attempts before `keep_from`: what `--previous` shows stays.
pub fn prune(dir: &Path, keep_from: u32) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let attempt = name
            .to_str()
            .and_then(|n| n.split('.').next())
            .and_then(|n| n.parse::<u32>().ok());
        if attempt.is_some_and(|attempt| attempt < keep_from) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}
