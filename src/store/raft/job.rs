//! What is to be done next, as Raft says it.

use ::raft::eraftpb::{ConfChangeV2, Entry, EntryType, HardState, Message, MessageType, SnapshotMetadata};
use prost::Message as _;

/// What must reach the disk before the group may be told.
#[derive(Debug)]
pub struct Job {
    /// Counts jobs; report them to [`Member::persisted`] in this order.
    pub number: u64,
    /// To append.
    pub entries: Vec<Entry>,
    /// To append.
    pub hard: Option<HardState>,
    /// The log begins anew after this index, before the entries.
    pub base: Option<u64>,
    /// Whether it needs a sync of its own. A commit index alone does not: it
    /// may be forgotten, and goes to disk with the next job.
    pub must_sync: bool,
    /// To send once the job is durable.
    pub messages: Vec<Message>,
}

/// What is to be done next.
#[derive(Debug)]
pub struct Work {
    /// To send now.
    pub messages: Vec<Message>,
    /// To apply now.
    pub committed: Vec<Entry>,
    /// Reads asked for with these contexts see everything they must once this index is applied.
    pub reads: Vec<(Vec<u8>, u64)>,
    /// A snapshot that takes the state's place now, before anything is persisted.
    pub snapshot: Option<SnapshotMetadata>,
    /// To persist.
    pub job: Job,
}

/// Whether a message brings a snapshot.
pub fn is_snapshot(message: &Message) -> bool {
    message.msg_type == MessageType::MsgSnapshot as i32
}

/// Raft's change of the members in an entry; `None` in an entry of another kind.
pub fn change_in(entry: &Entry) -> Result<Option<ConfChangeV2>, &'static str> {
    match EntryType::from_i32(entry.entry_type) {
        Some(EntryType::EntryNormal) => Ok(None),
        Some(EntryType::EntryConfChangeV2) => ConfChangeV2::decode(&*entry.data)
            .map(Some)
            .map_err(|_| "its change of the members is unreadable"),
        _ => Err("it is of an unknown kind"),
    }
}
