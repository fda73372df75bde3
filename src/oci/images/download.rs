//! Brings content from a registry into a file, whatever happens on the way.
//!
//! What breaks off is taken up where it ended: at once while the registry
//! answers, and by the next pull where it does not, since the file stays.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::StatusCode;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::manifest::{Descriptor, hex};
use super::registry::{Failure, Repository, Wanted, pause_after_break};
use super::{ImageError, blocking, disk, limits, places};
use crate::with_causes;

/// What must come within [`PROGRESS_TIME`], or between two breaks, to count as progress.
const PROGRESS_BYTES: u64 = 64 << 10;
const PROGRESS_TIME: Duration = Duration::from_secs(300);
/// Pieces that may wait for the disk.
const WAITING_MAX: usize = 64;
/// How often a long download is told of in the log.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// How far the download of an image is.
#[derive(Debug)]
pub(super) struct Progress {
    image: String,
    bytes_wanted: u64,
    bytes: AtomicU64,
    told: Mutex<Instant>,
}

impl Progress {
    /// Of an image of that many bytes.
    pub(super) fn new(image: &str, bytes_wanted: u64) -> Progress {
        Progress {
            image: image.to_owned(),
            bytes_wanted,
            bytes: AtomicU64::new(0),
            told: Mutex::new(Instant::now()),
        }
    }

    fn add(&self, bytes: u64) {
        let bytes = self.bytes.fetch_add(bytes, Relaxed) + bytes;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.elapsed() >= TOLD_EVERY {
            *told = Instant::now();
            tracing::info!(image = self.image, bytes, of = self.bytes_wanted, "pulling");
        }
    }
}

/// Fetched and checked content; its file goes with this.
#[derive(Debug)]
pub(super) struct Blob {
    /// Where it lies.
    pub(super) path: PathBuf,
    /// Holds the file's lock, so that nobody else writes to it.
    _file: File,
}

impl Drop for Blob {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Fetches content into a file below `dir`; never more than was announced.
pub(super) async fn blob(
    repository: &Repository,
    at: &Descriptor,
    dir: &Path,
    progress: &Progress,
) -> Result<Blob, ImageError> {
    hex(&at.digest)?;
    let mut part = {
        let (dir, at) = (dir.to_owned(), at.clone());
        blocking(move || Part::open(&dir, &at)).await?
    };
    progress.add(part.got);
    let mut breaks = 0;
    loop {
        let before = part.got;
        let (back, result) = fetch(repository, at, part, progress).await?;
        part = back;
        let why = match result {
            Ok(()) => return part.finish(at),
            Err(Trouble::Broken(why)) => why,
            Err(Trouble::Away(error)) => return Err(error),
            Err(Trouble::Bad(error)) => {
                part.remove();
                return Err(error);
            }
        };
        breaks = if part.got.saturating_sub(before) >= PROGRESS_BYTES {
            1
        } else {
            breaks + 1
        };
        let Some(pause) = pause_after_break(breaks) else {
            return Err(ImageError::Registry(format!(
                "failed to fetch {}: {why}",
                at.digest
            )));
        };
        tracing::debug!(digest = at.digest, got = part.got, why, "a download broke off");
        tokio::time::sleep(pause).await;
    }
}

/// Why a download did not come to its end.
enum Trouble {
    /// The rest may still come.
    Broken(String),
    /// The registry was asked often enough; what came is kept for the next pull.
    Away(ImageError),
    /// What came is of no use.
    Bad(ImageError),
}

/// Asks for what is missing and lets a thread of its own hash and write it.
async fn fetch(
    repository: &Repository,
    at: &Descriptor,
    mut part: Part,
    progress: &Progress,
) -> Result<(Part, Result<(), Trouble>), ImageError> {
    if part.got == at.size {
        return Ok((part, Ok(())));
    }
    let path = format!("blobs/{}", at.digest);
    let wanted = Wanted {
        path: &path,
        accept: "",
        from: part.got,
    };
    let response = match repository.get(wanted).await {
        Ok(response) => response,
        Err(failure) => return Ok((part, Err(trouble(at, failure)))),
    };
    if response.status() != StatusCode::PARTIAL_CONTENT {
        part.restart()?;
        if let Some(offered) = response.content_length().filter(|n| *n != at.size) {
            return Ok((part, Err(Trouble::Bad(wrong_size(at, offered)))));
        }
    }
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    let from = part.got;
    let writer = tokio::task::spawn_blocking(move || part.take(receiver));
    let received = receive(response, at, from, &sender, progress).await;
    drop(sender);
    let (part, written) = writer.await.map_err(|error| ImageError::Io {
        context: "writing a layer".to_owned(),
        reason: error.to_string(),
    })?;
    let result = written.map_err(Trouble::Bad).and(received);
    Ok((part, result))
}

async fn receive(
    mut response: reqwest::Response,
    at: &Descriptor,
    from: u64,
    sender: &mpsc::Sender<Bytes>,
    progress: &Progress,
) -> Result<(), Trouble> {
    let (mut got, mut seen) = (from, (Instant::now(), from));
    loop {
        let chunk = match response.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) if got == at.size => return Ok(()),
            Ok(None) => {
                return Err(Trouble::Broken(format!(
                    "it ended after {got} of {} bytes",
                    at.size
                )));
            }
            Err(error) => return Err(Trouble::Broken(with_causes(&error))),
        };
        got += chunk.len() as u64;
        if got > at.size {
            return Err(Trouble::Bad(wrong_size(at, got)));
        }
        progress.add(chunk.len() as u64);
        if sender.send(chunk).await.is_err() {
            // The writer has failed, and will say why.
            return Ok(());
        }
        if seen.0.elapsed() > PROGRESS_TIME {
            if got - seen.1 < PROGRESS_BYTES {
                let seconds = PROGRESS_TIME.as_secs();
                return Err(Trouble::Broken(format!(
                    "only {} bytes came in {seconds} s",
                    got - seen.1
                )));
            }
            seen = (Instant::now(), got);
        }
    }
}

fn wrong_size(at: &Descriptor, offered: u64) -> ImageError {
    ImageError::Unusable(format!(
        "{} has {} bytes by its manifest, the registry sends {offered} or more",
        at.digest, at.size
    ))
}

fn trouble(at: &Descriptor, failure: Failure) -> Trouble {
    match failure {
        Failure::Transient(why, _) => Trouble::Away(ImageError::Registry(format!(
            "failed to fetch {}: {why}",
            at.digest
        ))),
        Failure::NotFound => Trouble::Bad(ImageError::Registry(format!(
            "failed to fetch {}: not found",
            at.digest
        ))),
        Failure::Denied(why) => Trouble::Bad(ImageError::Denied(format!(
            "failed to fetch {}: pull access denied: {why}",
            at.digest
        ))),
        Failure::Final(why) => Trouble::Bad(ImageError::Registry(format!(
            "failed to fetch {}: {why}",
            at.digest
        ))),
    }
}

/// Content that is coming in.
struct Part {
    path: PathBuf,
    file: File,
    hash: Sha256,
    got: u64,
}

impl Part {
    /// Takes up what an earlier attempt left, unless somebody else is at it.
    fn open(dir: &Path, at: &Descriptor) -> Result<Part, ImageError> {
        let shared = dir.join("tmp").join(format!("blob-{}", hex(&at.digest)?));
        let open = |path: PathBuf| {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path);
            file.map(|file| (path, file)).map_err(disk("writing a layer"))
        };
        let (mut path, mut file) = open(shared)?;
        if file.try_lock().is_err() {
            (path, file) = open(places::temporary(dir, "blob")?)?;
            file.lock().map_err(disk("writing a layer"))?;
        }
        let mut part = Part {
            path,
            file,
            hash: Sha256::new(),
            got: 0,
        };
        part.take_up(at)?;
        let checked = limits::check_room(dir, at.size - part.got);
        if checked.is_err() {
            part.remove();
        }
        checked.map(|()| part)
    }

    fn take_up(&mut self, at: &Descriptor) -> Result<(), ImageError> {
        let mut buffer = vec![0; limits::BUFFER_BYTES];
        loop {
            let n = self.file.read(&mut buffer).map_err(disk("reading a layer"))?;
            let Some(bytes) = buffer.get(..n).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            self.hash.update(bytes);
            self.got += n as u64;
        }
        if self.got > at.size {
            self.restart()?;
        }
        Ok(())
    }

    fn restart(&mut self) -> Result<(), ImageError> {
        self.file.set_len(0).map_err(disk("writing a layer"))?;
        self.file
            .seek(SeekFrom::Start(0))
            .map_err(disk("writing a layer"))?;
        (self.hash, self.got) = (Sha256::new(), 0);
        Ok(())
    }

    /// Hashes and writes what comes until the channel ends.
    fn take(mut self, mut pieces: mpsc::Receiver<Bytes>) -> (Part, Result<(), ImageError>) {
        while let Some(piece) = pieces.blocking_recv() {
            if let Err(error) = self.file.write_all(&piece) {
                let dir = self.path.parent().unwrap_or(Path::new("."));
                let full = error.kind() == std::io::ErrorKind::StorageFull;
                let error = if full {
                    limits::no_room(dir, "nothing is left")
                } else {
                    disk("writing a layer")(error)
                };
                return (self, Err(error));
            }
            self.hash.update(&piece);
            self.got += piece.len() as u64;
        }
        (self, Ok(()))
    }

    fn finish(self, at: &Descriptor) -> Result<Blob, ImageError> {
        let found = format!("sha256:{:x}", self.hash.clone().finalize());
        if found != at.digest {
            self.remove();
            return Err(ImageError::Unusable(format!(
                "content has digest {found}, expected {}",
                at.digest
            )));
        }
        Ok(Blob {
            path: self.path,
            _file: self.file,
        })
    }

    fn remove(&self) {
        // What stays is taken up, or swept a day later.
        let _ = std::fs::remove_file(&self.path);
    }
}
