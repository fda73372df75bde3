//! Small files that must be there whole or not at all.

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces a file in one step, readable for its owner only; makes its folder. `durable` waits
/// for the disk: for what must survive a power cut.
///
/// # Errors
/// The disk.
pub fn write(path: &Path, bytes: &[u8], durable: bool) -> io::Result<()> {
    fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
    base::files::replace(path, bytes, 0o600, durable)
}

/// Writes a value as JSON; see [`write`].
///
/// # Errors
/// The disk.
pub fn write_json<T: Serialize>(path: &Path, value: &T, durable: bool) -> io::Result<()> {
    write(path, &serde_json::to_vec(value)?, durable)
}

/// Reads a JSON file; `None` when there is none or it makes no sense (which is
/// logged: it was written by us, so the disk is to blame).
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a file cannot be read");
            return None;
        }
    };
    serde_json::from_slice(&bytes)
        .inspect_err(|error| tracing::warn!(path = %path.display(), %error, "a file makes no sense"))
        .ok()
}
