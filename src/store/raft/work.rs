//! What is to be done next: what Raft wants said, applied and written down.

use ::raft::eraftpb::{Message, MessageType};

use super::Member;
use super::job::{Job, Work, is_snapshot};
use crate::plant::Plant;

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
