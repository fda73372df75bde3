//! A key's versions: making them from records, and their bytes in the state.
//!
//! ```text
//! value = version (1 byte) kind (1 byte: 1 live, 2 deleted)
//!         live: created revision_at expires_ms header text
//! ```
//! The text is kept complete, so that reading it is taking a slice.

use std::sync::Arc;

use bytes::Bytes;

use crate::codec::{Malformed, Reader, put_header, put_number, put_optional};
use crate::types::{Entry, Record};

/// Format of everything in this file; changes when the bytes change.
const VERSION: u8 = 1;

const LIVE: u8 = 1;
const DELETED: u8 = 2;

impl Entry {
    /// The version that writing `record` at `revision` makes.
    pub(crate) fn written(
        key: String,
        record: Record,
        revision: u64,
        previous: Option<&Entry>,
        now_ms: u64,
    ) -> Entry {
        let lifetime = record.ttl_seconds.map(|seconds| u64::from(seconds) * 1000);
        Entry {
            key,
            revision,
            created: previous.map_or(revision, |entry| entry.created),
            text: splice(&record.text, record.revision_at as usize, 0, revision),
            header: record.header,
            revision_at: record.revision_at,
            expires_ms: lifetime.map(|lifetime| now_ms.saturating_add(lifetime)),
        }
    }

    /// What watchers see when this version is deleted at `revision`.
    pub(crate) fn deleted(&self, revision: u64) -> Entry {
        let digits = digits(self.revision);
        let text = splice(&self.text, self.revision_at as usize, digits, revision);
        Entry {
            revision,
            text,
            expires_ms: None,
            ..self.clone()
        }
    }

    /// Whether writing `record` would change nothing: the same text but for
    /// the revision, the same header and no lifetime to renew.
    pub(crate) fn same_as(&self, record: &Record) -> bool {
        let at = record.revision_at as usize;
        let digits = digits(self.revision);
        record.ttl_seconds.is_none()
            && self.expires_ms.is_none()
            && self.revision_at == record.revision_at
            && self.text.len() == record.text.len() + digits
            && self.text.get(..at) == record.text.get(..at)
            && self.text.get(at + digits..) == record.text.get(at..)
            && self.header == record.header
    }

    /// Bytes that the version takes in memory, roughly.
    pub(crate) fn weight(&self) -> usize {
        self.text.len() + self.key.len() + 256
    }
}

/// The value under which a live version is stored.
pub fn encode_live(entry: &Entry) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.text.len() + 256);
    out.extend_from_slice(&[VERSION, LIVE]);
    put_number(&mut out, entry.created);
    put_number(&mut out, u64::from(entry.revision_at));
    put_optional(&mut out, entry.expires_ms);
    put_header(&mut out, &entry.header);
    out.extend_from_slice(&entry.text);
    out
}

/// The value that marks a deletion.
pub fn encode_deleted() -> [u8; 2] {
    [VERSION, DELETED]
}

/// Whether a stored value marks a deletion, without decoding the rest.
pub fn is_deleted(value: &[u8]) -> Result<bool, Malformed> {
    match value {
        [VERSION, LIVE, ..] => Ok(false),
        [VERSION, DELETED] => Ok(true),
        [VERSION, ..] => Err(Malformed("value has an unknown kind")),
        _ => Err(Malformed("value has an unknown version")),
    }
}

/// Reads a stored value; `None` marks a deletion.
pub fn decode(key: &str, revision: u64, value: Bytes) -> Result<Option<Arc<Entry>>, Malformed> {
    if is_deleted(&value)? {
        return Ok(None);
    }
    let mut reader = Reader::new(value.slice(2..));
    let created = reader.number()?;
    let revision_at = u32::try_from(reader.number()?).map_err(|_| Malformed("number is too large"))?;
    let expires_ms = reader.optional()?;
    let header = reader.header()?;
    let text = reader.remainder();
    if revision_at as usize + digits(revision) > text.len() {
        return Err(Malformed("revision's place lies beyond the text"));
    }
    let key = key.to_owned();
    Ok(Some(Arc::new(Entry {
        key,
        revision,
        created,
        header,
        text,
        revision_at,
        expires_ms,
    })))
}

/// How many decimal digits a revision has.
fn digits(revision: u64) -> usize {
    revision.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// Replaces `old` bytes at `at` by the revision's digits. A place beyond the
/// text (which commit refuses) counts as its end.
fn splice(text: &[u8], at: usize, old: usize, revision: u64) -> Bytes {
    let at = at.min(text.len());
    let after = (at + old).min(text.len());
    let number = revision.to_string();
    Bytes::from([&text[..at], number.as_bytes(), &text[after..]].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &'static str) -> Record {
        let revision_at = text.find("\"\"").map_or(0, |at| at as u32 + 1);
        Record {
            text: Bytes::from_static(text.as_bytes()),
            revision_at,
            ..Record::default()
        }
    }

    #[test]
    fn revisions_are_spliced_in_and_replaced_at_deletion() {
        let entry = Entry::written("/k".into(), record(r#"{"rv":"","x":1}"#), 99, None, 0);
        assert_eq!(entry.text, r#"{"rv":"99","x":1}"#);
        assert_eq!(entry.deleted(100).text, r#"{"rv":"100","x":1}"#);
        let next = Entry::written("/k".into(), record(r#"{"rv":"","x":2}"#), 101, Some(&entry), 0);
        assert_eq!((next.created, next.revision), (99, 101));
    }

    #[test]
    fn an_identical_record_is_recognised() {
        let entry = Entry::written("/k".into(), record(r#"{"rv":"","x":1}"#), 12, None, 0);
        assert!(entry.same_as(&record(r#"{"rv":"","x":1}"#)));
        assert!(!entry.same_as(&record(r#"{"rv":"","x":2}"#)));
        let renewed = Record {
            ttl_seconds: Some(1),
            ..record(r#"{"rv":"","x":1}"#)
        };
        assert!(!entry.same_as(&renewed), "a lifetime is renewed by writing");
    }

    #[test]
    fn versions_come_back_from_their_bytes() {
        let record = Record {
            ttl_seconds: Some(2),
            ..record(r#"{"rv":"","x":1}"#)
        };
        let entry = Entry::written("/k".into(), record, 7, None, 1000);
        assert_eq!(entry.expires_ms, Some(3000));
        let back = decode("/k", 7, encode_live(&entry).into());
        assert_eq!(back, Ok(Some(Arc::new(entry))));
        assert_eq!(
            decode("/k", 7, Bytes::copy_from_slice(&encode_deleted())),
            Ok(None)
        );
        assert!(decode("/k", 7, Bytes::from_static(b"\x09\x01")).is_err());
        assert!(decode("/k", 7, Bytes::new()).is_err());
    }
}
