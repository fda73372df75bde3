//! One member of the Raft group: drives the library's `RawNode`. Pure: time
//! comes as ticks, messages and persist notices come as calls, and what is to
//! be done comes out as [`Work`].

use ::raft::eraftpb::{Entry, HardState, Message, MessageType};
use ::raft::{Config, RawNode, StateRole};

use crate::error::StoreError;
use crate::log::Recovered;
use crate::state::Meta;
use crate::tail::Tail;

/// Ticks without a leader before a member stands for election.
const ELECTION_TICKS: usize = 10;
/// How much applied log is kept in memory for peers that lag.
const KEEP_BYTES: usize = 4 << 20;
/// Committed entries are handed out in portions of about this size.
const APPLY_BYTES: u64 = 1 << 20;

/// What must reach the disk before the group may be told.
#[derive(Debug)]
pub struct Job {
    /// Counts jobs; report them to [`Member::persisted`] in this order.
    pub number: u64,
    /// To append.
    pub entries: Vec<Entry>,
    /// To append.
    pub hard: Option<HardState>,
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
    /// Reads of these batches see everything they must once this index is applied.
    pub reads: Vec<(u64, u64)>,
    /// To persist.
    pub job: Job,
}

/// One member.
pub struct Member {
    node: RawNode<Tail>,
    tail: Tail,
    /// Draws election timeouts; the library would take them from the thread's
    /// generator, and no simulated run could be repeated.
    seed: u64,
    timeout_term: u64,
}

impl Member {
    /// The member as found on disk.
    pub fn new(meta: &Meta, recovered: Recovered, seed: u64) -> Result<Member, StoreError> {
        let mut hard = recovered.hard;
        let last = meta.applied + recovered.entries.len() as u64;
        // The commit index on disk may lag behind (it is not synced for its own
        // sake), but what was applied was committed.
        hard.commit = hard.commit.min(last).max(meta.applied);
        hard.term = hard.term.max(1);
        let before = (meta.applied, meta.applied_term);
        let tail = Tail::new(hard, meta.members.clone(), before, recovered.entries);
        let config = Config {
            id: meta.member,
            applied: meta.applied,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: 1,
            check_quorum: true,
            pre_vote: true,
            // Unsafe when messages reorder: would acknowledge what a peer lacks.
            batch_append: false,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            max_uncommitted_size: 64 << 20,
            max_committed_size_per_ready: APPLY_BYTES,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&config, tail.clone(), &logger)?;
        Ok(Member {
            node,
            tail,
            seed,
            timeout_term: 0,
        })
    }

    /// Stands for election now, if nobody else could win it.
    pub fn start(&mut self) -> Result<(), StoreError> {
        if self.alone() {
            self.node.campaign()?;
        }
        Ok(())
    }

    /// Whether the group consists of this member only.
    pub fn alone(&self) -> bool {
        self.node.raft.prs().is_singleton() && self.node.raft.promotable()
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

    /// The current term.
    pub fn term(&self) -> u64 {
        self.node.raft.term
    }

    /// Lets one tick pass.
    pub fn tick(&mut self) {
        self.node.tick();
        if self.timeout_term != self.term() {
            self.timeout_term = self.term();
            let draw = mix(self.seed ^ mix(self.term())) as usize % ELECTION_TICKS;
            self.node
                .raft
                .set_randomized_election_timeout(ELECTION_TICKS + draw);
        }
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
        // A leader drops proposals only when too many are under way.
        self.node.step(message).map_err(|_| StoreError::Overloaded)
    }

    /// Asks for an index from which the reads of batch `number` are
    /// linearizable. The library may drop the question silently: ask again.
    pub fn read_index(&mut self, number: u64) {
        self.node.read_index(number.to_le_bytes().to_vec());
    }

    /// Takes a peer's message, after checking that it cannot be one of those
    /// on which the library panics.
    pub fn receive(&mut self, message: Message) -> Result<(), StoreError> {
        self.check(&message).map_err(|reason| StoreError::Format {
            what: format!("message from member {}", message.from),
            reason: reason.into(),
        })?;
        Ok(self.node.step(message)?)
    }

    /// Reports that the job of this number, and so all before it, is durable.
    pub fn persisted(&mut self, number: u64) {
        self.node.on_persist_ready(number);
    }

    /// Reports how far committed entries have been applied.
    pub fn applied(&mut self, index: u64) {
        self.node.advance_apply_to(index);
        // Entries not yet synced here may already be committed by others: raft
        // still needs to see them in the log, so they stay.
        let durable = index.min(self.node.raft.raft_log.persisted);
        self.tail.trim(durable, if self.alone() { 0 } else { KEEP_BYTES });
    }

    /// What is to be done next, if anything.
    pub fn work(&mut self) -> Option<Work> {
        if !self.node.has_ready() {
            return None;
        }
        let mut ready = self.node.ready();
        let reads = ready.take_read_states().into_iter();
        let reads = reads
            .filter_map(|read| Some((number(&read.request_ctx)?, read.index)))
            .collect();
        let job = Job {
            number: ready.number(),
            entries: ready.take_entries(),
            hard: ready.hs().cloned(),
            must_sync: ready.must_sync(),
            messages: ready.take_persisted_messages(),
        };
        let work = Work {
            messages: ready.take_messages(),
            committed: ready.take_committed_entries(),
            reads,
            job,
        };
        // Raft must be able to read entries before they are durable.
        self.tail.append(&work.job.entries);
        self.node.advance_append_async(ready);
        Some(work)
    }

    fn check(&self, message: &Message) -> Result<(), &'static str> {
        let raft = &self.node.raft;
        if message.to != raft.id {
            return Err("it is for another member");
        }
        if message.from == raft.id || raft.prs().get(message.from).is_none() {
            return Err("its sender is not in the group");
        }
        match MessageType::from_i32(message.msg_type) {
            Some(MessageType::MsgAppend) => self.check_append(message),
            Some(MessageType::MsgHeartbeat) if message.commit > raft.raft_log.last_index() => {
                Err("it commits entries that are not here")
            }
            Some(MessageType::MsgAppendResponse)
                if message.index > raft.raft_log.last_index() && self.leads() =>
            {
                Err("it acknowledges entries that were never sent")
            }
            Some(MessageType::MsgSnapshot) => Err("snapshots are not taken"),
            Some(MessageType::MsgPropose) => Err("proposals are not forwarded"),
            Some(kind) if ::raft::raw_node::is_local_msg(kind) => Err("it is of a kind that is never sent"),
            Some(_) => Ok(()),
            None => Err("it is of an unknown kind"),
        }
    }

    fn check_append(&self, message: &Message) -> Result<(), &'static str> {
        let committed = self.node.raft.raft_log.committed;
        let mut before = (message.index, message.log_term);
        for entry in &message.entries {
            if Some(entry.index) != before.0.checked_add(1)
                || entry.term < before.1
                || entry.term > message.term
            {
                return Err("its entries are not in order");
            }
            let ours = self.tail.term_of(entry.index);
            if entry.index <= committed && ours.is_some_and(|term| term != entry.term) {
                return Err("it contradicts what is committed");
            }
            before = (entry.index, entry.term);
        }
        Ok(())
    }
}

fn number(context: &[u8]) -> Option<u64> {
    context.try_into().ok().map(u64::from_le_bytes)
}

/// SplitMix64's finisher.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
