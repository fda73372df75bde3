//! Removing everything that we made on the host.

use std::path::Path;

use crate::config::NetworkError;

/// Removes links, namespaces and nftables tables of an instance, and its
/// address records. What is absent already is not an error; what cannot be
/// removed does not keep the rest from being removed.
///
/// Blocks for some milliseconds. Call it when no process uses the instance.
pub fn cleanup(instance_id: &str, data_dir: &Path) -> Result<(), NetworkError> {
    todo!()
}
