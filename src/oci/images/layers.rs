//! Layers: checked, unpacked once each, kept under the digest of what they hold.

use std::fs::{self, File};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{ImageError, disk, manifest, unpack};

/// Where a layer lies. Half the digest is enough to tell layers apart, and
/// keeps the mount options of a deep stack within a page.
pub(super) fn path(dir: &Path, diff_id: &str) -> PathBuf {
    let hex = diff_id.strip_prefix("sha256:").unwrap_or(diff_id);
    dir.join("layers").join(hex.get(..32).unwrap_or("malformed"))
}

/// Unpacks an archive (plain, gzip or zstd) as a layer; returns its `diff_id`.
/// When `expected` is given, the archive must have it.
pub(super) fn add(dir: &Path, archive: &Path, expected: Option<&str>) -> Result<String, ImageError> {
    if let Some(diff_id) = expected {
        manifest::hex(diff_id)?;
        if path(dir, diff_id).is_dir() {
            return Ok(diff_id.to_owned());
        }
    }
    let temp = temporary(dir, "layer")?;
    let result = unpack_checked(dir, archive, expected, &temp);
    if temp.exists() {
        // Left over from a failure, or because another process was quicker.
        let _ = fs::remove_dir_all(&temp);
    }
    result
}

fn unpack_checked(
    dir: &Path,
    archive: &Path,
    expected: Option<&str>,
    temp: &Path,
) -> Result<String, ImageError> {
    let file = File::open(archive).map_err(disk("reading a layer"))?;
    let mut reader = Hashing {
        inner: decompressed(file)?,
        hash: Sha256::new(),
    };
    fs::create_dir(temp).map_err(disk("unpacking a layer"))?;
    unpack::unpack(&mut reader, temp)?;
    // What follows the archive's end counts in the digest too.
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(disk("reading a layer"))?;
    let diff_id = format!("sha256:{:x}", reader.hash.finalize());
    if let Some(wanted) = expected.filter(|wanted| **wanted != diff_id) {
        return Err(ImageError::Unusable(format!(
            "layer has diff_id {diff_id}, its image says {wanted}"
        )));
    }
    let place = path(dir, &diff_id);
    if !place.is_dir() {
        fs::rename(temp, &place).map_err(disk("keeping a layer"))?;
    }
    Ok(diff_id)
}

/// A fresh path below `tmp/`.
pub(super) fn temporary(dir: &Path, what: &str) -> Result<PathBuf, ImageError> {
    use base::random::{Random, SystemRandom};
    let tmp = dir.join("tmp");
    fs::create_dir_all(&tmp).map_err(disk("making a temporary folder"))?;
    Ok(tmp.join(format!("{what}-{}-{}", std::process::id(), SystemRandom.hex(8))))
}

/// The archive behind whatever compression its first bytes show.
pub(super) fn decompressed(file: File) -> Result<Box<dyn Read>, ImageError> {
    let mut reader = BufReader::new(file);
    let head = std::io::BufRead::fill_buf(&mut reader).map_err(disk("reading a layer"))?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(reader))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::with_buffer(reader).map_err(disk("reading a layer"))?)
    } else {
        Box::new(reader)
    })
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.inner.read(buffer)?;
        self.hash.update(buffer.get(..n).unwrap_or_default());
        Ok(n)
    }
}

/// The digest of a file.
pub(super) fn digest_of(path: &Path) -> Result<String, ImageError> {
    let mut file = File::open(path).map_err(disk("reading content"))?;
    let mut hash = Sha256::new();
    std::io::copy(&mut file, &mut hash).map_err(disk("reading content"))?;
    Ok(format!("sha256:{:x}", hash.finalize()))
}

/// Bytes that a file or tree takes.
pub(super) fn size(path: &Path) -> u64 {
    let Ok(meta) = fs::symlink_metadata(path) else {
        return 0;
    };
    if !meta.is_dir() {
        return meta.len();
    }
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| size(&entry.path()))
        .sum()
}
