//! What an image may cost this machine: decided before the disk is full.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use super::{ImageError, disk};

/// Size of the buffers between disk, decompression and disk.
pub(super) const BUFFER_BYTES: usize = 256 << 10;

/// Most bytes that one layer may unpack to.
const LAYER_BYTES_MAX: u64 = 64 << 30;
/// Most entries of one layer.
const LAYER_ENTRIES_MAX: u64 = 4_000_000;
/// How many times its archive's size a layer may take; gzip reaches a thousand
/// times on zeros, programs and documents three to ten.
const RATIO_MAX: u64 = 200;
/// What a layer may take whatever its archive's size: small archives of sparse
/// data are honest now and then.
const RATIO_FREE_BYTES: u64 = 1 << 30;
/// Room that images never take: one part in so many of the disk, at most so much.
const RESERVE_PART: u64 = 50;
const RESERVE_BYTES_MAX: u64 = 1 << 30;

/// Bytes that images may still take of the disk that holds `dir`.
pub(super) fn room(dir: &Path) -> Result<u64, ImageError> {
    let found = statvfs(dir).map_err(|error| disk("asking for free space")(error.into()))?;
    let unit = found.fragment_size();
    let reserve = (found.blocks() * unit / RESERVE_PART).min(RESERVE_BYTES_MAX);
    Ok((found.blocks_available() * unit).saturating_sub(reserve))
}

/// Refuses what is known beforehand not to fit.
pub(super) fn check_room(dir: &Path, bytes: u64) -> Result<(), ImageError> {
    let room = room(dir)?;
    if bytes <= room {
        return Ok(());
    }
    Err(no_room(
        dir,
        &format!("{bytes} bytes are needed, images may take {room} more"),
    ))
}

/// The disk is full: what to do about it.
pub(super) fn no_room(dir: &Path, what: &str) -> ImageError {
    ImageError::Io {
        context: "no space left for images".to_owned(),
        reason: format!(
            "{what} of the disk that holds {}; free some, or remove images",
            dir.display()
        ),
    }
}

/// What one layer may still take.
#[derive(Debug)]
pub(super) struct Budget {
    bytes: u64,
    entries: u64,
    bytes_max: u64,
    limit: String,
    full: Option<ImageError>,
}

impl Budget {
    /// The budget of an archive of `archive_bytes` that is unpacked below `dir`.
    pub(super) fn of(dir: &Path, archive_bytes: u64) -> Result<Budget, ImageError> {
        Ok(Budget::new(dir, archive_bytes, room(dir)?))
    }

    fn new(dir: &Path, archive_bytes: u64, room: u64) -> Budget {
        let by_ratio = archive_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
        let (bytes_max, limit) = if by_ratio < LAYER_BYTES_MAX {
            let limit = format!(
                "{by_ratio} bytes, {RATIO_MAX} times its archive of {archive_bytes} bytes and at least 1 GiB"
            );
            (by_ratio, limit)
        } else {
            (LAYER_BYTES_MAX, format!("{LAYER_BYTES_MAX} bytes"))
        };
        let what = format!("a layer unpacks to more than the {room} bytes that images may take");
        Budget {
            bytes: 0,
            entries: 0,
            bytes_max: bytes_max.min(room),
            limit,
            full: (room < bytes_max).then(|| no_room(dir, &what)),
        }
    }

    /// Accounts for one entry of so many bytes.
    ///
    /// # Errors
    /// When that is too much; the text names the limit.
    pub(super) fn spend(&mut self, bytes: u64) -> Result<(), ImageError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.entries += 1;
        if self.bytes > self.bytes_max {
            let bomb =
                || ImageError::Unusable(format!("layer unpacks to more than its limit of {}", self.limit));
            return Err(self.full.clone().unwrap_or_else(bomb));
        }
        if self.entries > LAYER_ENTRIES_MAX {
            return Err(ImageError::Unusable(format!(
                "layer has more than the {LAYER_ENTRIES_MAX} entries that are allowed"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn bombs_are_told_by_ratio_and_the_limit_is_named() {
        let mut budget = Budget::new(Path::new("/x"), 1000, 100 * GIB);
        budget.spend(GIB).unwrap();
        let text = budget.spend(1).unwrap_err().to_string();
        assert!(text.contains("200 times its archive of 1000 bytes"), "{text}");
        let mut honest = Budget::new(Path::new("/x"), GIB, 100 * GIB);
        honest.spend(64 * GIB).unwrap();
        assert!(
            honest
                .spend(1)
                .unwrap_err()
                .to_string()
                .contains("68719476736 bytes")
        );
    }

    #[test]
    fn a_full_disk_is_told_apart_from_a_bomb() {
        let mut budget = Budget::new(Path::new("/x"), 1000, 500);
        budget.spend(500).unwrap();
        let error = budget.spend(1).unwrap_err();
        assert!(matches!(error, ImageError::Io { .. }), "{error}");
        assert!(
            error
                .to_string()
                .contains("500 bytes that images may take of the disk that holds /x")
        );
    }

    #[test]
    fn entries_are_counted() {
        let mut budget = Budget::new(Path::new("/x"), 1000, GIB);
        budget.entries = LAYER_ENTRIES_MAX;
        assert!(
            budget
                .spend(0)
                .unwrap_err()
                .to_string()
                .contains("4000000 entries")
        );
    }
}
