//! Collections kept on disk, so that a node that starts while the server is
//! away knows the cluster as it was when it last heard of it.
//!
//! The copy is a help, not a record: it may be a while behind, so it is used only when
//! the server does not answer soon ([`Cache::filled`]), and it is written seldom, since
//! it lies on flash that wears.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base::{OnError, Tasks};
use client::{Cache, Client, Object, Selectors};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Version of the files' form.
const VERSION: u32 = 1;
/// Changes seldom come alone: this long is waited for more.
const GATHER: Duration = Duration::from_secs(2);
/// Between two writes at least.
const PAUSE_MIN: Duration = Duration::from_secs(20);
/// What may be written in the long run, in bytes a second: a node that sees
/// changes without end writes less than a gigabyte a day.
const BYTES_PER_SECOND: u64 = 8 * 1024;
/// However much it is, it is written once in this time if it changed.
const PAUSE_MAX: Duration = Duration::from_secs(600);

#[derive(Serialize)]
struct Out<'a, T> {
    version: u32,
    objects: Vec<&'a T>,
}

#[derive(Deserialize)]
struct In<T> {
    version: u32,
    objects: Vec<T>,
}

/// A cache of all objects of a kind that begins with what `path` holds and keeps it there.
pub fn cache<T>(client: &Client, path: PathBuf, tasks: &Tasks) -> Cache<T>
where
    T: Object + Serialize + DeserializeOwned,
{
    let known = read(&path);
    let cache = Cache::resume(client, Selectors::all(), known, tasks);
    let name = format!("copy of {}", T::URL_PATH_SEGMENT);
    tasks.spawn(name, OnError::Log, keep(cache.clone(), path));
    cache
}

/// What the file holds; `None` if there is none of use, which is no reason not to start.
fn read<T: DeserializeOwned>(path: &Path) -> Option<Vec<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a copy cannot be read");
            return None;
        }
    };
    match serde_json::from_slice::<In<T>>(&bytes) {
        Ok(file) if file.version == VERSION => Some(file.objects),
        Ok(file) => {
            tracing::info!(path = %path.display(), file.version, "a copy of another version is not used");
            None
        }
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "a copy makes no sense and is not used");
            None
        }
    }
}

async fn keep<T: Object + Serialize>(cache: Cache<T>, path: PathBuf) {
    let mut changes = cache.changes();
    cache.synced().await;
    let mut written = None;
    while changes.recv().await.is_some() {
        tokio::time::sleep(GATHER).await;
        while changes.try_recv().is_ok() {}
        let pause = match write(cache.list(), path.clone(), written).await {
            Ok((hash, bytes)) => {
                written = Some(hash);
                pause_after(bytes)
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a copy was not written");
                PAUSE_MAX
            }
        };
        tokio::time::sleep(pause.saturating_sub(GATHER)).await;
    }
}

/// How long to wait after so many bytes.
fn pause_after(bytes: u64) -> Duration {
    Duration::from_secs(bytes / BYTES_PER_SECOND).clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Writes the file unless it would be the one with hash `written`; its hash, and how much was written.
async fn write<T: Object + Serialize>(
    objects: Vec<Arc<T>>,
    path: PathBuf,
    written: Option<u64>,
) -> io::Result<(u64, u64)> {
    let work = move || {
        let out = Out {
            version: VERSION,
            objects: objects.iter().map(Arc::as_ref).collect(),
        };
        let bytes = serde_json::to_vec(&out)?;
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let hash = hasher.finish();
        if written == Some(hash) {
            return Ok((hash, 0));
        }
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        base::files::replace(&path, &bytes, 0o600, true)?;
        Ok((hash, bytes.len() as u64))
    };
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Service;

    use super::*;
    use crate::fixtures::service;

    #[tokio::test]
    async fn what_was_written_is_read_and_nothing_is_written_twice() {
        let dir = std::env::temp_dir().join(format!("coracle-kept-{}", std::process::id()));
        let path = dir.join("services.json");
        assert!(read::<Service>(&path).is_none());
        let objects = vec![Arc::new(service("x", "web", "10.43.0.9", &[("", 80)]))];
        let (hash, bytes) = write(objects.clone(), path.clone(), None).await.unwrap();
        assert!(bytes > 0);
        assert_eq!(read::<Service>(&path).unwrap(), [(*objects[0]).clone()]);
        let again = write(objects, path.clone(), Some(hash)).await.unwrap();
        assert_eq!(again, (hash, 0));
        fs::write(&path, r#"{"version": 2, "objects": []}"#).unwrap();
        assert!(read::<Service>(&path).is_none());
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn much_is_written_seldom() {
        assert_eq!(pause_after(10_000), PAUSE_MIN);
        assert_eq!(pause_after(800 * 1024), Duration::from_secs(100));
        assert_eq!(pause_after(1 << 40), PAUSE_MAX);
    }
}
