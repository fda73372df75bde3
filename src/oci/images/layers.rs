//! Layers: checked, unpacked once each, kept under the digest of what they hold.

use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::lease::Lease;
use super::limits::{BUFFER_BYTES, Budget};
use super::{ImageError, disk, manifest, places, unpack};

/// What an archive may lack at its end: the padding of its last file and the two
/// blocks of nothing. Some tools leave them out, and Go's reader does not mind.
/// Only where a digest vouches that nothing else is missing.
const TAIL_BYTES: u64 = 511 + 2 * 512;

/// A window of 128 MiB: what zstd's own tools take without being asked.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// Whether that layer is here; if so the lease keeps it.
pub(super) fn is_here(dir: &Path, diff_id: &str, lease: &Lease) -> Result<bool, ImageError> {
    manifest::hex(diff_id)?;
    lease.hold(diff_id)?;
    Ok(places::layer(dir, diff_id).is_dir())
}

/// Unpacks an archive (plain, gzip or zstd) of `bytes` as a layer; returns its
/// `diff_id`. When `expected` is given, the archive must have it.
pub(super) fn add(
    dir: &Path,
    archive: impl Read + 'static,
    bytes: u64,
    expected: Option<&str>,
    lease: &Lease,
) -> Result<String, ImageError> {
    if let Some(diff_id) = expected
        && is_here(dir, diff_id, lease)?
    {
        return Ok(diff_id.to_owned());
    }
    let mut budget = Budget::of(dir, bytes)?;
    let temp = places::temporary(dir, "layer")?;
    let tail = if expected.is_some() { TAIL_BYTES } else { 0 };
    let result = unpack_at(&temp, archive, tail, &mut budget).and_then(|diff_id| {
        if let Some(wanted) = expected.filter(|wanted| **wanted != diff_id) {
            let text = format!("layer has diff_id {diff_id}, its image says {wanted}");
            return Err(ImageError::Unusable(text));
        }
        let place = places::layer(dir, &diff_id);
        if !is_here(dir, &diff_id, lease)?
            && let Err(error) = fs::rename(&temp, &place)
            && !place.is_dir()
        {
            return Err(disk("keeping a layer")(error));
        }
        Ok(diff_id)
    });
    if temp.exists() {
        // Left over from a failure, or because another process was quicker.
        let _ = fs::remove_dir_all(&temp);
    }
    result
}

/// Unpacks into a fresh folder; `tail` bytes may be missing at the archive's end.
fn unpack_at(
    temp: &Path,
    archive: impl Read + 'static,
    tail: u64,
    budget: &mut Budget,
) -> Result<String, ImageError> {
    let mut reader = Hashing::new(decompressed(archive)?);
    fs::create_dir(temp).map_err(disk("unpacking a layer"))?;
    unpack::unpack(&mut (&mut reader).chain(io::repeat(0).take(tail)), temp, budget)?;
    // What follows the archive's end counts in the digest too, and in the budget.
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = reader.read(&mut buffer).map_err(disk("reading a layer"))?;
        if n == 0 {
            break;
        }
        budget.spend(n as u64)?;
    }
    Ok(reader.digest())
}

/// The archive behind whatever compression its first bytes show. Skippable
/// frames, which `zstd:chunked` puts its table of contents in, are skipped.
pub(super) fn decompressed(archive: impl Read + 'static) -> Result<Box<dyn Read>, ImageError> {
    let mut reader = BufReader::with_capacity(BUFFER_BYTES, archive);
    let head = io::BufRead::fill_buf(&mut reader).map_err(disk("reading a layer"))?;
    let is_zstd = head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(head);
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if is_zstd {
        let mut decoder =
            zstd::stream::read::Decoder::with_buffer(reader).map_err(disk("reading a layer"))?;
        decoder
            .window_log_max(ZSTD_WINDOW_LOG_MAX)
            .map_err(disk("reading a layer"))?;
        Box::new(decoder)
    } else {
        Box::new(reader)
    })
}

/// A frame that zstd's format sets apart for others' use.
fn is_skippable(head: &[u8]) -> bool {
    matches!(head, [first, 0x2a, 0x4d, 0x18, ..] if first & 0xf0 == 0x50)
}

/// Passes bytes on and hashes them on the way.
pub(super) struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Hashing<R> {
    pub(super) fn new(inner: R) -> Hashing<R> {
        Hashing {
            inner,
            hash: Sha256::new(),
        }
    }

    /// The digest of what was read.
    pub(super) fn digest(self) -> String {
        format!("sha256:{:x}", self.hash.finalize())
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// The digest of all that `reader` gives.
pub(super) fn digest_of(reader: impl Read) -> Result<String, ImageError> {
    let mut reader = Hashing::new(reader);
    let mut buffer = vec![0; BUFFER_BYTES];
    while reader.read(&mut buffer).map_err(disk("reading content"))? > 0 {}
    Ok(reader.digest())
}

/// Opens a file of the store.
pub(super) fn open(path: &Path) -> Result<File, ImageError> {
    File::open(path).map_err(disk("reading content"))
}

/// Bytes that a file or tree takes.
pub(super) fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !meta.is_dir() {
        return meta.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_archive_may_be_missing() {
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(700);
        builder
            .append_data(&mut header, "file", &[b'x'; 700][..])
            .unwrap();
        let whole = builder.into_inner().unwrap();
        let dir = tempfile::tempdir().unwrap();
        // Header, content, and nothing that follows it.
        for (name, length, tail, fits) in [
            ("as umoci does", 512 + 700, TAIL_BYTES, true),
            ("nobody vouches", 512 + 700, 0, false),
            ("whole", whole.len(), 0, true),
        ] {
            let mut budget = Budget::of(dir.path(), whole.len() as u64).unwrap();
            let archive = io::Cursor::new(whole[..length].to_vec());
            let done = unpack_at(&dir.path().join(name), archive, tail, &mut budget);
            assert_eq!(done.is_ok(), fits, "{name}: {done:?}");
            if fits {
                assert_eq!(fs::read(dir.path().join(name).join("file")).unwrap(), [b'x'; 700]);
            }
        }
    }
}
