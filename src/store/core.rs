//! The heart: Raft, state machine, state and cache together, without threads,
//! clocks or log files of its own. The driver turns it in production, the
//! simulator in tests; both see the same code.

use std::sync::Arc;
use std::time::Duration;

use ::raft::eraftpb::Message;
use tokio::sync::{oneshot, watch};

use crate::cache::Cache;
use crate::call::Call;
use crate::calls::Calls;
use crate::error::StoreError;
use crate::habits::Habits;
use crate::log::Recovered;
use crate::membership::Peer;
use crate::membership::Whoami;
use crate::parcel::Parcel;
use crate::plant::Plant;
use crate::raft::{Job, Member, is_snapshot};
use crate::reads::Reads;
use crate::shipment::Shipment;
use crate::state::{Install, Meta, State, Usage};
use crate::status::{Leadership, Status};
use crate::tail::Archive;
use crate::types::Outcome;
use kept::{Keeping, Unwritten};

mod applying;
mod chores;
mod kept;
mod proposing;
mod reading;
mod settling;
mod snapshots;
mod suspension;
mod witness;

/// The ticket number of this member's announcement of itself.
const ANNOUNCEMENT: u64 = u64::MAX;

/// What came out of one turn.
pub struct Turn {
    /// To send now, each to a member.
    pub parcels: Vec<(u64, Parcel)>,
    /// To send now, as streams; report what became of each with [`Core::snapshot_sent`].
    pub shipments: Vec<Shipment>,
    /// To persist, if anything; then report it with [`Core::persisted`].
    pub job: Option<Job>,
    /// So many entries were applied.
    pub applied: usize,
    /// History was compacted: old versions can be swept away.
    pub compacted: bool,
}

/// See the module.
pub struct Core {
    member: Member,
    state: Arc<dyn State>,
    cache: Arc<Cache>,
    meta: Meta,
    habits: Habits,
    calls: Calls,
    reads: Reads,
    /// Parcels that did not come from Raft.
    outbox: Vec<(u64, Parcel)>,
    /// The copy that goes with the snapshot that Raft was handed last.
    arrived: Option<(Meta, Install)>,
    led: bool,
    /// The term of the entry that was applied last, when questions were last asked again.
    heard_term: u64,
    /// An expiry has been proposed and not yet applied.
    expiring: bool,
    /// This member tells where it is.
    announcing: Option<oneshot::Receiver<Result<Vec<Outcome>, StoreError>>>,
    /// When compaction was last considered, and the revision then.
    mark: (Duration, u64),
    leadership: watch::Sender<Leadership>,
    /// Why nothing can be written, while this is so.
    suspended: Option<String>,
    /// What was applied and the state did not take. Nothing else is done before it has.
    unwritten: Option<Unwritten>,
    keeping: Keeping,
    /// The term in which this member proposed that the latest change of the members is settled.
    settling: Option<u64>,
    /// For so many ticks the latest change of the members has waited to be settled.
    unsettled_ticks: u64,
    /// The latest change of the members is in this entry, or in one before it.
    changed_at: u64,
}

impl Core {
    /// Puts together what was found on disk. `cache` holds the state's entries.
    pub fn new(
        state: Arc<dyn State>,
        cache: Arc<Cache>,
        meta: Meta,
        recovered: Recovered,
        habits: Habits,
    ) -> Result<Core, StoreError> {
        let mut member = Member::new(&meta, recovered, &habits)?;
        member.start()?;
        let (mark, changed_at) = ((Duration::ZERO, meta.compacted), meta.applied);
        Ok(Core {
            member,
            state,
            cache,
            meta,
            habits,
            calls: Calls::default(),
            reads: Reads::default(),
            outbox: vec![],
            arrived: None,
            led: false,
            heard_term: 0,
            expiring: false,
            announcing: None,
            mark,
            leadership: watch::Sender::default(),
            suspended: None,
            unwritten: None,
            keeping: Keeping::default(),
            settling: None,
            unsettled_ticks: 0,
            changed_at,
        })
    }

    /// What a witness reads back from when it hands over what others lack.
    pub fn attach(&self, archive: Arc<dyn Archive>) {
        self.member
            .attach(archive, (self.meta.installed, self.meta.installed_term));
    }

    /// Takes calls, to be proposed in this order in one go.
    pub fn submit(&mut self, calls: Vec<Call>) {
        for call in calls {
            match &self.suspended {
                None => self.calls.add(call),
                Some(reason) => drop(call.answer.send(Err(StoreError::Unwritable {
                    reason: reason.clone(),
                    uncertain: false,
                }))),
            }
        }
    }

    /// How many calls were taken and not answered yet.
    pub fn under_way(&self) -> usize {
        self.calls.under_way()
    }

    /// Takes a parcel from another member, whose identity is certain. The error
    /// is fatal; what is merely wrong with a parcel is in the second result.
    pub fn receive(&mut self, from: u64, parcel: Parcel) -> Result<Result<(), StoreError>, StoreError> {
        let removed = self.meta.roster.removed.contains(&from);
        match parcel {
            // As if the network had lost it.
            Parcel::Raft(message) if self.cannot_take(&message) => {}
            Parcel::Removed if self.member.knows(from) => return Err(StoreError::Removed),
            Parcel::Removed => {}
            _ if removed => self.outbox.push((from, Parcel::Removed)),
            Parcel::Raft(message) if is_snapshot(&message) => {
                let what = format!("message from member {from:x}");
                let reason = "a snapshot comes with its state or not at all".into();
                return Ok(Err(StoreError::Format { what, reason }));
            }
            Parcel::Raft(message) if message.from == from => {
                return Ok(self.member.receive(*message, &self.meta.roster.removed));
            }
            Parcel::Raft(message) => {
                let what = format!("message from member {from:x}");
                let reason = format!("it says that it is from {:x}", message.from);
                return Ok(Err(StoreError::Format { what, reason }));
            }
            Parcel::Forward { term, calls } => {
                let replies = self.propose_for(term, calls);
                if !replies.is_empty() {
                    self.outbox.push((from, Parcel::Returned { term, replies }));
                }
            }
            Parcel::Returned { term, replies } => {
                for (number, reply) in replies {
                    let number = number.wrapping_sub(self.mark_of_life());
                    self.calls.returned(term, number, reply);
                }
            }
        }
        Ok(Ok(()))
    }

    /// Parcels to a member were lost.
    pub fn unreachable(&mut self, id: u64) {
        self.member.unreachable(id);
    }

    /// The connection on which a member's parcels came has ended.
    pub fn hung_up(&mut self, id: u64) {
        self.member.hung_up(id);
    }

    /// The jobs up to this number are durable.
    pub fn persisted(&mut self, number: u64) {
        self.member.persisted(number);
    }

    /// Whether the others are to be told how far entries are committed, unless there is soon something else to say.
    pub fn owes_word(&self) -> bool {
        self.member.owes_word()
    }

    /// Tells the others how far entries are committed.
    pub fn tell_commit(&mut self) {
        self.member.tell_commit();
    }

    /// Lets a Raft tick pass.
    pub fn tick(&mut self) {
        // What it would send could not go out, and would pile up.
        if self.unwritten.is_none() {
            self.member.tick();
            self.settle();
            self.press();
        }
        self.calls.tick();
        if let Some(batch) = self.reads.tick() {
            self.ask(batch);
        }
    }

    /// Does one piece of work; `None` when there is none. Call it until then
    /// after anything else was called.
    pub fn turn(&mut self) -> Result<Option<Turn>, StoreError> {
        if self.unwritten.is_some() {
            return Ok(None);
        }
        self.dispatch();
        if let Some(batch) = self.reads.next_batch() {
            self.ask(batch);
        }
        let mut parcels = std::mem::take(&mut self.outbox);
        let Some(work) = self.member.work() else {
            self.arrived = None;
            return Ok((!parcels.is_empty()).then_some(Turn {
                parcels,
                shipments: vec![],
                job: None,
                applied: 0,
                compacted: false,
            }));
        };
        let mut job = work.job;
        // Of one who led when it was made, and does not any more.
        job.messages.retain(|message| !is_snapshot(message));
        let (snapshots, messages): (Vec<_>, Vec<_>) = work.messages.into_iter().partition(is_snapshot);
        parcels.extend(messages.into_iter().map(addressed));
        // Before anything is applied: these are of the state as it is now.
        let shipments = snapshots.into_iter().map(|message| self.ship(message));
        let shipments = shipments.collect::<Result<_, _>>()?;
        if let Some(about) = work.snapshot {
            self.install(&about)?;
        }
        self.arrived = None;
        let applied = work.committed.len();
        let compacted = self.apply(work.committed)?;
        self.reads_cleared(work.reads);
        self.ask_again();
        self.notice_role();
        Ok(Some(Turn {
            parcels,
            shipments,
            job: Some(job),
            applied,
            compacted,
        }))
    }

    /// Refuses everyone who waits: nothing more will be done.
    pub fn abandon(&mut self, why: impl Fn() -> StoreError) {
        self.calls.refuse(&why);
        self.reads.refuse(why);
    }

    /// Whether this member decides everything by itself: then what is in the
    /// cache is the latest there is.
    pub fn alone(&self) -> bool {
        self.member.alone()
    }

    /// Whether there is nobody to talk to, so that no ticks are needed.
    pub fn solitary(&self) -> bool {
        self.member.solitary()
    }

    /// Whether this member can serve everything now.
    pub fn settled(&self) -> bool {
        self.member.settled()
    }

    /// Who this member is.
    pub fn whoami(&self) -> Whoami {
        Whoami {
            cluster: self.meta.cluster,
            member: self.meta.member,
        }
    }

    /// Who leads, kept up to date.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.leadership.subscribe()
    }

    /// Who leads, as far as is known now.
    pub fn leads(&self) -> Leadership {
        *self.leadership.borrow()
    }

    /// How things are.
    pub fn status(&self) -> Status {
        Status {
            cluster: self.meta.cluster,
            member: self.meta.member,
            leadership: self.leads(),
            applied: self.meta.applied,
            committed: self.member.committed(),
            last_index: self.member.last_index(),
            revision: self.meta.revision,
            compacted: self.meta.compacted,
            members: self.meta.members.clone(),
            unsettled: self.meta.unsettled.clone(),
            peers: self.meta.roster.peers.clone(),
            health: if self.member.leads() {
                self.member.health()
            } else {
                vec![]
            },
        }
    }

    /// How much room the state takes.
    pub fn usage(&self) -> Usage {
        self.state.usage()
    }

    /// Where the members are.
    pub fn peers(&self) -> &[Peer] {
        &self.meta.roster.peers
    }

    fn notice_role(&mut self) {
        self.notice_witness();
        self.settle();
        let leads = self.member.leads();
        if self.led && !leads {
            // What was proposed may have been lost with the leadership.
            self.expiring = false;
        }
        self.led = leads;
        let (before, leader) = (self.leadership.borrow().leader, self.member.acclaimed());
        if self.habits.plants.has(Plant::RetryAtOnce) && before != leader {
            self.calls.fence(u64::MAX);
        }
        if leader.is_some() && before != leader {
            self.calls.try_again();
        }
        let now = Leadership {
            leader,
            term: self.member.term(),
            leads: self.member.settled() && !self.habits.witness,
        };
        self.leadership
            .send_if_modified(|before| std::mem::replace(before, now) != now);
    }
}

/// A message of Raft's with its receiver.
pub fn addressed(message: Message) -> (u64, Parcel) {
    (message.to, Parcel::Raft(Box::new(message)))
}
