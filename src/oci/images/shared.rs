//! Settings of the store, and what its clones and its pulls share.

use std::path::PathBuf;
use std::time::Duration;

use super::error::ImageError;
use super::registries::Registries;
use super::turns::Turns;

/// Settings of the store.
#[derive(Clone, Debug)]
pub struct ImagesConfig {
    /// Its folder, `<data-dir>/images`. May be shared by several processes at
    /// once (`coracle image import` beside a running node).
    pub dir: PathBuf,
    /// Where registries are reached, and with what.
    pub registries: Registries,
    /// Silence of a registry after which it counts as gone.
    pub silence_max: Duration,
}

impl ImagesConfig {
    /// A store in `dir` that knows of registries no more than their names.
    pub fn new(dir: PathBuf) -> ImagesConfig {
        ImagesConfig {
            dir,
            registries: Registries::default(),
            silence_max: Duration::from_secs(30),
        }
    }
}

/// What the store's clones and its pulls share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) config: ImagesConfig,
    /// One pull of a reference at a time; the second finds what the first brought.
    pub(super) pulls: Turns,
    /// One fetch of a layer at a time.
    pub(super) layers: Turns,
}

/// Runs work that waits for the disk where it holds up nobody.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| ImageError::Io {
            context: "working on images".to_owned(),
            reason: error.to_string(),
        })?
}
