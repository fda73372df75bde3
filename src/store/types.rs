//! What callers hand in and get back: operations, entries, events, queries.

use std::sync::Arc;

use bytes::Bytes;

/// One change to one key. Every operation that changes something gets a revision of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a record.
    Put {
        /// The key; not empty, no NUL byte.
        key: String,
        /// What to write.
        record: Record,
        /// What must hold of the key's current entry.
        expect: Expect,
    },
    /// Removes the key.
    Delete {
        /// The key; not empty, no NUL byte.
        key: String,
        /// What must hold of the key's current entry.
        expect: Expect,
    },
}

impl Op {
    /// The key that the operation is about.
    pub fn key(&self) -> &str {
        match self {
            Op::Put { key, .. } | Op::Delete { key, .. } => key,
        }
    }
}

/// The precondition of one operation, decided when the operation is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing.
    Any,
    /// The key does not exist.
    Absent,
    /// The key exists and this is the revision of its last change.
    Revision(u64),
    /// The key exists.
    Present,
}

/// What is written under a key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// What filters and indexes need, so that nobody parses the text.
    pub header: Header,
    /// The object's JSON text with an empty `"resourceVersion":""`.
    pub text: Bytes,
    /// Byte offset in `text` just after the opening quote of the empty
    /// resource version: the revision's digits go there.
    pub revision_at: u32,
    /// The entry is deleted by the store itself so many seconds after this write.
    pub ttl_seconds: Option<u32>,
}

/// The parsed part of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.labels`.
    pub labels: Vec<(String, String)>,
    /// The uids of `metadata.ownerReferences`.
    pub owners: Vec<String>,
    /// Selectable fields and their values.
    pub fields: Vec<(String, String)>,
}

/// A key's content at one revision. Immutable and shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: String,
    /// Revision of the change that made this version; of the deletion, in a deleted entry.
    pub revision: u64,
    /// Revision at which the key was created (again).
    pub created: u64,
    /// The parsed part.
    pub header: Header,
    /// The complete JSON text, resource version in place.
    pub text: Bytes,
    /// Byte offset in `text` of the resource version's first digit.
    pub revision_at: u32,
    /// When the store will delete the entry by itself: milliseconds since the Unix epoch.
    pub expires_ms: Option<u64>,
}

/// What became of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The entry as it stands now. A put that would have changed nothing
    /// returns the current entry, with its old revision, and makes no event.
    Put(Arc<Entry>),
    /// The entry as it was, with the deletion's revision in place.
    Deleted(Arc<Entry>),
    /// There was nothing to delete.
    Unchanged,
}

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was written: created if the event has no previous entry.
    Put,
    /// It was deleted.
    Delete,
}

/// One change, as watchers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The change's revision. Unique and increasing over all events.
    pub revision: u64,
    /// What happened.
    pub kind: Change,
    /// The new entry; of a deletion, the old one with the deletion's revision in place.
    pub entry: Arc<Entry>,
    /// The entry before, if there was one.
    pub previous: Option<Arc<Entry>>,
}

/// What to list. `ListQuery::default()` is everything at the latest revision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListQuery {
    /// Keys begin with this.
    pub prefix: String,
    /// Only keys after this one (exclusive), for the next page.
    pub after: Option<String>,
    /// At most so many entries; 0 is all.
    pub limit: usize,
    /// The state exactly as of this revision; none is the latest.
    pub revision: Option<u64>,
}

impl ListQuery {
    /// Everything under a prefix, latest.
    pub fn prefix(prefix: impl Into<String>) -> Self {
        ListQuery {
            prefix: prefix.into(),
            ..ListQuery::default()
        }
    }
}

/// The answer to a [`ListQuery`], in key order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The revision at which the listing is exact; watch from here for what follows.
    pub revision: u64,
    /// The entries.
    pub entries: Vec<Arc<Entry>>,
    /// Whether the limit left entries out.
    pub more: bool,
    /// How many entries the limit left out.
    pub remaining: u64,
}
