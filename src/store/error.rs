//! Everything that can go wrong in the store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::types::Entry;

/// The store's one error type.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A precondition did not hold; nothing of the call was done.
    #[error("precondition of operation {index} failed")]
    Precondition {
        /// Which operation of the call, from 0.
        index: usize,
        /// The key's entry at that moment.
        current: Option<Arc<Entry>>,
    },
    /// History before `oldest` is gone: list again.
    #[error("the requested revision has been compacted; the oldest available is {oldest}")]
    Compacted {
        /// The oldest revision that can still be listed or watched from.
        oldest: u64,
    },
    /// The revision asked for has not happened yet.
    #[error("revision {asked} is in the future; the latest is {current}")]
    Future {
        /// The revision asked for.
        asked: u64,
        /// The latest revision.
        current: u64,
    },
    /// A key or record that cannot be stored.
    #[error("operation {index} is invalid: {reason}")]
    Invalid {
        /// Which operation of the call, from 0.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The operations of one call together are larger than allowed.
    #[error("request is too large: {bytes} bytes, at most {bytes_max}")]
    TooLarge {
        /// Size of the request.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// This member does not lead, so it can decide nothing. Nothing was done.
    #[error("this member is not the leader")]
    NotLeader {
        /// The leader's member id, if known.
        leader: Option<u64>,
    },
    /// No leader could be reached in time. Nothing was done; try again.
    #[error("the cluster has no leader now: {reason}")]
    NoLeader {
        /// What is known of the reason.
        reason: String,
    },
    /// A change of the members that must not be made. Nothing was done.
    #[error("{0}")]
    Membership(String),
    /// This member was removed from the group and can never come back under its id.
    #[error(
        "this server was removed from the cluster: stop it, empty its data folder and join again with \
         `coracle server --join`"
    )]
    Removed,
    /// The disk takes no writes; what is stored can be read. The store goes on
    /// by itself as soon as the disk does.
    #[error(
        "the store cannot write now{}: {reason}; reads go on, and writes as soon as the disk takes them",
        if *.uncertain { ", and whether this write is done will be seen then" } else { "" }
    )]
    Unwritable {
        /// What the disk or its file system said.
        reason: String,
        /// The call was on its way already: it may be done, now or later. Otherwise nothing was done.
        uncertain: bool,
    },
    /// The state is as large as it may be; nothing was done.
    #[error(
        "the store is full: it takes {bytes} of {quota} bytes; delete what is not needed, or raise quota-bytes; \
         deletions and changes that do not grow are taken"
    )]
    Full {
        /// What the state takes, history included.
        bytes: u64,
        /// What it may take.
        quota: u64,
    },
    /// Too many writes are under way. Nothing was done; try again.
    #[error("too many writes are under way")]
    Overloaded,
    /// The call may or may not have been done: leadership was lost meanwhile.
    #[error("the outcome of the request is unknown")]
    Uncertain,
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
    /// The store stopped after an error that it must not carry on from.
    #[error("the store stopped: {0}")]
    Stopped(String),
    /// Bytes on disk are not what was written there.
    #[error("{} is damaged at offset {offset}: {reason}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in the file.
        offset: u64,
        /// What was found.
        reason: String,
    },
    /// The folder was written by another version of the program, or is another member's.
    #[error("{what}: {reason}")]
    Format {
        /// The file or folder.
        what: String,
        /// What does not fit.
        reason: String,
    },
    /// The operating system refused.
    #[error("{what}: {source}")]
    Io {
        /// What was being done, with the path.
        what: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// RocksDB refused.
    #[error("{what}: {source}")]
    State {
        /// What was being done.
        what: &'static str,
        /// RocksDB's error.
        source: rocksdb::Error,
    },
    /// The Raft library refused.
    #[error("raft: {0}")]
    Raft(#[from] raft::Error),
}

impl StoreError {
    /// What the operating system refused, while `doing` something to a file.
    pub(crate) fn io(doing: &str, path: &Path, source: std::io::Error) -> Self {
        Self::Io {
            what: format!("{doing} {}", path.display()),
            source,
        }
    }
}
