//! What stands in the database's keys, and what is said when it makes no sense.

use rocksdb::DBRawIterator;

use crate::codec::Malformed;
use crate::error::StoreError;

/// A stored version: key, revision, value.
pub(super) type Found<'i> = (&'i str, u64, &'i [u8]);

/// The entry a version iterator stands on: key, revision, value.
pub(super) fn current<'i>(versions: &'i DBRawIterator<'_>) -> Result<Option<Found<'i>>, StoreError> {
    let Some((raw, value)) = versions.item() else {
        versions.status().map_err(reading)?;
        return Ok(None);
    };
    let (key, suffix) = raw
        .len()
        .checked_sub(9)
        .and_then(|length| raw.split_at_checked(length))
        .ok_or_else(|| malformed(Malformed("data key is too short")))?;
    Ok(Some((text(key)?, !big_endian(&suffix[1..])?, value)))
}

pub(super) fn data_key(key: &str, revision: u64) -> Vec<u8> {
    [key.as_bytes(), &[0], &(!revision).to_be_bytes()].concat()
}

/// Sorts after every version of `key` and before every other key.
pub(super) fn past_key(key: &str) -> Vec<u8> {
    [key.as_bytes(), &[1]].concat()
}

pub(super) fn ttl_key(at_ms: u64, key: &str) -> Vec<u8> {
    [&at_ms.to_be_bytes(), key.as_bytes()].concat()
}

pub(super) fn big_endian(bytes: &[u8]) -> Result<u64, StoreError> {
    let bytes = bytes
        .try_into()
        .map_err(|_| malformed(Malformed("a number has the wrong length")))?;
    Ok(u64::from_be_bytes(bytes))
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, StoreError> {
    std::str::from_utf8(bytes).map_err(|_| malformed(Malformed("a key is not UTF-8")))
}

pub(super) fn malformed(error: Malformed) -> StoreError {
    StoreError::Format {
        what: "state".into(),
        reason: error.0.into(),
    }
}

pub(super) fn reading(source: rocksdb::Error) -> StoreError {
    StoreError::State {
        what: "reading the state",
        source,
    }
}

pub(super) fn writing(source: rocksdb::Error) -> StoreError {
    StoreError::State {
        what: "writing the state",
        source,
    }
}
