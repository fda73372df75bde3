//! What is to be done next: what Raft wants said, applied and written down.

use ::raft::eraftpb::{ConfChangeV2, Entry, EntryType, HardState, Message, MessageType, SnapshotMetadata};
use prost::Message as _;

use super::Member;
use crate::plant::Plant;

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

impl Member {
    /// What is to be done next, if anything.
    pub fn work(&mut self) -> Option<Work> {
        if self.hurried {
            self.tell_commit();
        }
        if !self.node.has_ready() {
            return None;
        }
        self.tail.open_archive(self.witness && self.leads());
        let mut ready = self.node.ready();
        let reads = ready.take_read_states().into_iter();
        let reads = reads.map(|read| (read.request_ctx, read.index)).collect();
        let snapshot = ready.snapshot().metadata.clone().filter(|about| about.index > 0);
        let job = Job {
            number: ready.number(),
            entries: ready.take_entries(),
            hard: ready.hs().cloned(),
            base: snapshot.as_ref().map(|about| about.index),
            must_sync: ready.must_sync(),
            messages: ready.take_persisted_messages(),
        };
        let mut work = Work {
            messages: ready.take_messages(),
            committed: ready.take_committed_entries(),
            reads,
            snapshot,
            job,
        };
        if let Some(about) = &work.snapshot {
            self.tail.restart(about.index, about.term);
        }
        // Raft must be able to read entries before they are durable.
        self.tail.append(&work.job.entries);
        self.node.advance_append_async(ready);
        self.hold_back(&mut work);
        self.spoil(&mut work);
        Some(work)
    }

    /// Whether followers do not know yet how far entries are committed, and none are under way that will tell them.
    pub fn owes_word(&self) -> bool {
        let log = &self.node.raft.raft_log;
        let under_way = log.last_index() > log.committed;
        self.leads() && !under_way && log.committed != self.told_commit && !self.solitary()
    }

    /// Followers hear how far entries are committed with the entries that come next. If none come for a moment they are
    /// told by a message of its own, each of which costs an answer, too. The library would send one each time.
    pub fn tell_commit(&mut self) {
        if self.owes_word() {
            (self.told_commit, self.hurried) = (self.committed(), false);
            self.node.raft.bcast_append();
        }
    }

    /// Followers are to be told at once when what is under way is committed: somebody waits there.
    pub fn hurry(&mut self) {
        self.hurried = true;
    }

    /// The library lets a leader speak at once, since it takes for granted that the votes were durable before
    /// they were counted. The only voter counts its own without waiting. If it spoke and was stopped then, it
    /// would stand in the same term once more, with other entries than those that a learner has by now.
    fn hold_back(&mut self, work: &mut Work) {
        let job = &mut work.job;
        if let Some(hard) = job.hard.as_ref().filter(|hard| hard.term > self.told.0) {
            self.told = (hard.term, Some(job.number));
        }
        if self.told.1.is_some() && !self.plants.has(Plant::LeadUnsynced) {
            // A snapshot tells of nothing but what was committed before.
            let held = work.messages.extract_if(.., |message| !is_snapshot(message));
            job.messages.extend(held);
        }
    }

    /// Makes the planted mistakes.
    fn spoil(&self, work: &mut Work) {
        let job = &mut work.job;
        if self.plants.has(Plant::ForgetTerm) {
            job.hard = None;
        }
        if self.plants.has(Plant::KeepLog) {
            job.base = None;
        }
        if self.plants.has(Plant::VoteUnsynced) {
            let is_vote = |m: &Message| m.msg_type == MessageType::MsgRequestVoteResponse as i32;
            let (votes, rest) = std::mem::take(&mut job.messages).into_iter().partition(is_vote);
            job.messages = rest;
            work.messages.extend::<Vec<Message>>(votes);
        }
    }
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
