//! One member of the Raft group: drives the library's `RawNode`. Pure: time
//! comes as ticks, messages and persist notices come as calls, and what is to
//! be done comes out as [`Work`].

use std::sync::Arc;

use ::raft::eraftpb::{ConfChangeV2, ConfState, Entry, Message, MessageType};
use ::raft::{Config, RawNode, SnapshotStatus, StateRole};

use crate::check::{Standing, check};
use crate::error::StoreError;
use crate::habits::Habits;
use crate::log::Recovered;
use crate::membership::Health;
use crate::plant::{Plant, Plants};
use crate::state::Meta;
use crate::tail::{Archive, Tail};

mod job;
mod standing;
#[cfg(test)]
mod tests;
mod work;

pub use job::{Job, change_in, is_snapshot};

/// Ticks without a leader before a member stands for election; up to twice as many, by chance.
const ELECTION_TICKS: usize = 8;
/// Ticks between a leader's signs of life.
const HEARTBEAT_TICKS: usize = 2;
/// So many times as long as others a witness waits before it stands for election: whoever could win without
/// its entries has won by then.
const WITNESS_PATIENCE: usize = 3;
/// Committed entries are handed out in portions of about this size.
const APPLY_BYTES: u64 = 1 << 20;

/// One member.
pub struct Member {
    node: RawNode<Tail>,
    tail: Tail,
    /// Draws election timeouts; the library would take them from the thread's
    /// generator, and no simulated run could be repeated.
    seed: u64,
    /// How much applied log is kept in memory for peers that lag, in bytes.
    keep_bytes: usize,
    witness: bool,
    /// The term in which the connection to the leader ended, and who that was.
    deserted: Option<(u64, u64)>,
    /// The latest term of any job, and the number of the job that makes it durable, until it has.
    told: (u64, Option<u64>),
    /// How far entries were committed when the others were last told that and nothing else.
    told_commit: u64,
    /// Somebody waits elsewhere to hear how far entries are committed.
    hurried: bool,
    plants: Plants,
}

impl Member {
    /// The member as found on disk.
    pub fn new(meta: &Meta, recovered: Recovered, habits: &Habits) -> Result<Member, StoreError> {
        let mut hard = recovered.hard;
        let last = meta.applied + recovered.entries.len() as u64;
        // The commit index on disk may lag behind (it is not synced for its own
        // sake), but what was applied was committed.
        hard.commit = hard.commit.min(last).max(meta.applied);
        hard.term = hard.term.max(1);
        let (before, term) = ((meta.applied, meta.applied_term), hard.term);
        let tail = Tail::new(hard, meta.members.clone(), before, recovered.entries);
        let config = Config {
            id: meta.member,
            applied: meta.applied,
            election_tick: ELECTION_TICKS,
            max_election_tick: ELECTION_TICKS * (WITNESS_PATIENCE + 1),
            heartbeat_tick: HEARTBEAT_TICKS,
            check_quorum: true,
            pre_vote: true,
            // Unsafe when messages reorder: would acknowledge what a peer lacks.
            batch_append: habits.plants.has(Plant::BatchAppend),
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: APPLY_BYTES,
            // Told by `tell_commit`.
            skip_bcast_commit: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, tail.clone(), &logger)?;
        Ok(Member {
            node,
            tail,
            seed: habits.origin,
            keep_bytes: habits.keep_log_bytes,
            witness: habits.witness,
            deserted: None,
            told: (term, None),
            told_commit: 0,
            hurried: false,
            plants: habits.plants,
        })
    }

    /// Stands for election now, if nobody else could win it.
    pub fn start(&mut self) -> Result<(), StoreError> {
        if self.alone() {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// Whether this member decides everything by itself: there may be learners,
    /// but no other voter.
    pub fn alone(&self) -> bool {
        self.node.raft.prs().is_singleton() && self.node.raft.promotable()
    }

    /// Whether there is nobody to talk to.
    pub fn solitary(&self) -> bool {
        self.alone() && self.node.raft.prs().iter().count() == 1
    }

    /// Whether an id belongs to the group.
    pub fn knows(&self, id: u64) -> bool {
        self.node.raft.prs().get(id).is_some()
    }

    /// What others may lack is read back from there if this member, a witness, has to hand it over; `floor` is
    /// the entry before all that is there, if its term is known.
    pub fn attach(&self, archive: Arc<dyn Archive>, floor: (u64, u64)) {
        self.tail.attach(archive, floor);
    }

    /// Whether a change of the members is under way.
    pub fn changing(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Whether this member leads.
    pub fn leads(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether it leads and has committed an entry of its own term, so that it
    /// knows everything that was ever committed.
    pub fn settled(&self) -> bool {
        self.leads() && self.node.raft.commit_to_current_term()
    }

    /// The leader's id, if known.
    pub fn leader(&self) -> Option<u64> {
        Some(self.node.raft.leader_id).filter(|id| *id != 0)
    }

    /// The leader's id, if known and if it may be told. One that leads by its own vote alone does not before
    /// that is durable: stopped until then, it may come back and vote for another in the same term.
    pub fn acclaimed(&self) -> Option<u64> {
        let early = self.leads() && self.told.1.is_some() && !self.plants.has(Plant::LeadUnsynced);
        self.leader().filter(|_| !early)
    }

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Whether leadership is being handed over, during which nothing can be proposed.
    pub fn handing_over(&self) -> bool {
        self.node.raft.lead_transferee.is_some()
    }

    /// Proposes entries with these data, all or none. The error leaves nothing behind.
    pub fn propose(&mut self, data: Vec<Vec<u8>>) -> Result<(), StoreError> {
        if !self.leads() {
            return Err(StoreError::NotLeader {
                leader: self.leader(),
            });
        }
        let entries = data
            .into_iter()
            .map(|data| Entry {
                data,
                ..Entry::default()
            })
            .collect();
        let mut message = Message {
            from: self.node.raft.id,
            entries,
            ..Message::default()
        };
        message.set_msg_type(MessageType::MsgPropose);
        // A leader drops proposals only when too many are under way, or during a hand-over.
        self.node.step(message).map_err(|_| StoreError::Overloaded)
    }

    /// Proposes a change of the members. The error leaves nothing behind.
    pub fn propose_change(&mut self, change: ConfChangeV2) -> Result<(), StoreError> {
        let raft = &self.node.raft;
        // The second is what makes changes of one member at a time safe: without an
        // entry of its own term, a leader may not know of another change under way.
        if raft.has_pending_conf() || !raft.commit_to_current_term() {
            let reason = "another change of the members is under way: try again when it is done";
            return Err(StoreError::Membership(reason.into()));
        }
        let proposed = self.node.propose_conf_change(vec![], change);
        proposed.map_err(|_| StoreError::Overloaded)
    }

    /// Carries out a change of the members that was committed; the error says
    /// that it does not fit the members as they are, which is the same everywhere.
    pub fn change(&mut self, change: &ConfChangeV2) -> Result<ConfState, ::raft::Error> {
        let members = self.node.apply_conf_change(change)?;
        let raft = &mut self.node.raft;
        if raft.state == StateRole::Leader && raft.prs().get(raft.id).is_none() {
            // The library would go on leading, and look for itself among the members.
            let term = raft.term;
            raft.become_follower(term, 0);
        }
        Ok(members)
    }

    /// Hands leadership to a voter, if this one leads.
    pub fn hand_over(&mut self, to: u64) {
        self.node.transfer_leader(to);
    }

    /// How the members are, as their leader knows it.
    pub fn health(&self) -> Vec<Health> {
        let raft = &self.node.raft;
        let health = |(id, progress): (&u64, &::raft::Progress)| Health {
            id: *id,
            active: progress.recent_active || *id == raft.id,
            matched: progress.matched,
        };
        let mut all: Vec<Health> = raft.prs().iter().map(health).collect();
        all.sort_by_key(|health| health.id);
        all
    }

    /// Index of the log's last entry.
    pub fn last_index(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// Index of the last entry that is known to be committed.
    pub fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    /// Asks for an index from which reads with this context are linearizable.
    /// The library may drop the question silently: ask again. A context must
    /// never come a second time from anybody, or an old answer would do for a
    /// new question.
    pub fn read_index(&mut self, context: Vec<u8>) {
        self.node.read_index(context);
    }

    /// Reports what became of a snapshot sent to a peer. Without this the peer gets nothing more.
    pub fn snapshot_sent(&mut self, to: u64, arrived: bool) {
        let status = if arrived {
            SnapshotStatus::Finish
        } else {
            SnapshotStatus::Failure
        };
        self.node.report_snapshot(to, status);
    }

    /// Reports that messages to a peer were lost.
    pub fn unreachable(&mut self, id: u64) {
        self.node.report_unreachable(id);
    }

    /// Takes a peer's message, after checking that it cannot be one of those
    /// on which the library panics.
    pub fn receive(&mut self, message: Message, removed: &[u64]) -> Result<(), StoreError> {
        let log = &self.node.raft.raft_log;
        if self.witness && message.msg_type == MessageType::MsgTimeoutNow as i32 {
            return Err(StoreError::Format {
                what: format!("message from member {:x}", message.from),
                reason: "it hands leadership to a witness".into(),
            });
        }
        let standing = Standing {
            id: self.node.raft.id,
            term: self.term(),
            role: self.node.raft.state,
            joined: self.node.raft.prs().iter().next().is_some(),
            committed: log.committed,
            last: log.last_index(),
            persisted: log.persisted,
            knows: &|id| self.knows(id),
            removed,
            term_of: &|index| log.term(index).unwrap_or(0),
        };
        let checked = match self.plants.has(Plant::BatchAppend) {
            true => Ok(()),
            false => check(&message, &standing),
        };
        checked.map_err(|reason| StoreError::Format {
            what: format!("message from member {:x}", message.from),
            reason: reason.into(),
        })?;
        Ok(self.node.step(message)?)
    }

    /// Reports that the job of this number, and so all before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        self.told.1 = self.told.1.filter(|job| *job > number);
        self.node.on_persist_ready(number);
    }

    /// Reports how far committed entries have been applied.
    pub fn applied(&mut self, meta: &Meta) {
        // First: what follows may ask for a snapshot.
        self.tail.applied(meta);
        let last = self.last_index();
        self.node.advance_apply_to(meta.applied);
        if self.leads() && self.last_index() > last {
            // The end of a change of the members; the library would tell of it with the next heartbeat.
            self.node.raft.bcast_append();
        }
        // Entries not yet synced here may already be committed by others: raft
        // still needs to see them in the log, so they stay.
        let durable = meta.applied.min(self.node.raft.raft_log.persisted);
        self.tail
            .trim(durable, if self.solitary() { 0 } else { self.keep_bytes });
    }

    /// Reports that the snapshot from [`Work::snapshot`] has taken the state's
    /// place, durably. Nothing else may be called between the two.
    pub fn installed(&mut self, meta: &Meta) {
        self.node.raft.on_persist_snap(meta.applied);
        self.applied(meta);
    }
}
