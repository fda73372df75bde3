//! The heart: Raft, state machine, state and cache together, without threads,
//! clocks or log files of its own. The driver turns it in production, the
//! simulator in tests; both see the same code.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ::raft::eraftpb::{Entry, EntryType, Message};
use tokio::sync::oneshot;

use crate::apply::{Applier, Position, Verdict};
use crate::cache::Cache;
use crate::command::{Body, Command, Ticket};
use crate::error::StoreError;
use crate::log::Recovered;
use crate::raft::{Job, Member};
use crate::reads::{Clearance, Reads};
use crate::state::{Meta, State};
use crate::types::Outcome;

/// How many entries one command expires at most.
const EXPIRE_MAX: usize = 1000;

/// The ticket number of commands that nobody waits for.
const NOBODY: u64 = 0;

/// Where a call's outcome goes.
pub type Answer = oneshot::Sender<Result<Vec<Outcome>, StoreError>>;

/// A command on its way into the log.
pub struct Call {
    /// The number in the command's ticket; not 0.
    pub number: u64,
    /// The encoded command.
    pub data: Vec<u8>,
    /// Who waits.
    pub answer: Answer,
}

/// What came out of one turn.
pub struct Turn {
    /// To send now.
    pub messages: Vec<Message>,
    /// To persist; then report it with [`Core::persisted`].
    pub job: Job,
    /// History was compacted: old versions can be swept away.
    pub compacted: bool,
}

/// How the store looks after itself.
#[derive(Clone, Copy, Debug)]
pub struct Habits {
    /// This run's ticket origin.
    pub origin: u64,
    /// History older than this is compacted.
    pub keep_history: Option<Duration>,
}

/// See the module.
pub struct Core {
    member: Member,
    state: Arc<dyn State>,
    cache: Arc<Cache>,
    meta: Meta,
    habits: Habits,
    waiting: HashMap<u64, Answer>,
    reads: Reads,
    led: bool,
    /// An expiry has been proposed and not yet applied.
    expiring: bool,
    /// When compaction was last considered, and the revision then.
    mark: (Duration, u64),
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
        let mut member = Member::new(&meta, recovered, habits.origin)?;
        member.start()?;
        let mark = (Duration::ZERO, meta.compacted);
        let (waiting, reads) = (HashMap::new(), Reads::default());
        Ok(Core {
            member,
            state,
            cache,
            meta,
            habits,
            waiting,
            reads,
            led: false,
            expiring: false,
            mark,
        })
    }

    /// Proposes calls, in this order, in one go.
    pub fn submit(&mut self, calls: Vec<Call>) {
        if calls.is_empty() {
            return;
        }
        let (mut data, mut answers) = (Vec::with_capacity(calls.len()), Vec::with_capacity(calls.len()));
        for call in calls {
            data.push(call.data);
            answers.push((call.number, call.answer));
        }
        match self.member.propose(data) {
            Ok(()) => self.waiting.extend(answers),
            Err(error) => {
                for (_, answer) in answers {
                    let _ = answer.send(Err(refusal(&error)));
                }
            }
        }
    }

    /// Asks for clearance to read the cache linearizably.
    pub fn read(&mut self, clearance: Clearance) {
        self.reads.add(clearance);
    }

    /// Takes a message from a peer.
    pub fn receive(&mut self, message: Message) -> Result<(), StoreError> {
        self.member.receive(message)
    }

    /// The jobs up to this number are durable.
    pub fn persisted(&mut self, number: u64) {
        self.member.persisted(number);
    }

    /// Lets a Raft tick pass.
    pub fn tick(&mut self) {
        self.member.tick();
        self.reads.ask_again();
    }

    /// Does one piece of work; `None` when there is none. Call it until then
    /// after anything else was called.
    pub fn turn(&mut self) -> Result<Option<Turn>, StoreError> {
        if let Some(batch) = self.reads.next_batch() {
            self.member.read_index(batch);
        }
        let Some(work) = self.member.work() else {
            return Ok(None);
        };
        let compacted = self.apply(work.committed)?;
        for (batch, index) in work.reads {
            self.reads.answered(batch, index);
        }
        self.reads.release(self.meta.applied);
        self.notice_role();
        Ok(Some(Turn {
            messages: work.messages,
            job: work.job,
            compacted,
        }))
    }

    /// Proposes what the store does by itself: deleting entries whose time has
    /// come and compacting. `now_ms` is wall-clock time since the Unix epoch.
    pub fn chores(&mut self, now_ms: u64, monotonic: Duration) -> Result<(), StoreError> {
        if !self.member.settled() {
            return Ok(());
        }
        let mut bodies = vec![];
        if !self.expiring {
            let expired = self.state.expired(now_ms, EXPIRE_MAX)?;
            if !expired.is_empty() {
                bodies.push(Body::Expire(expired));
            }
        }
        bodies.extend(self.due_compaction(monotonic).map(Body::Compact));
        for body in bodies {
            let expires = matches!(body, Body::Expire(_));
            let ticket = Ticket {
                origin: self.habits.origin,
                number: NOBODY,
            };
            let proposed = self
                .member
                .propose(vec![Command { ticket, now_ms, body }.encode()]);
            self.expiring |= expires && proposed.is_ok();
        }
        Ok(())
    }

    /// Refuses everyone who waits: nothing more will be done.
    pub fn abandon(&mut self, why: impl Fn() -> StoreError) {
        for (_, answer) in self.waiting.drain() {
            let _ = answer.send(Err(why()));
        }
        self.reads.refuse(why);
    }

    /// Whether the group consists of this member only: then what is in the
    /// cache is the latest there is.
    pub fn alone(&self) -> bool {
        self.member.alone()
    }

    /// Whether this member can serve everything now.
    pub fn settled(&self) -> bool {
        self.member.settled()
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<bool, StoreError> {
        let Some(last) = entries.last() else {
            return Ok(false);
        };
        (self.meta.applied, self.meta.applied_term) = (last.index, last.term);
        let position = Position {
            revision: self.meta.revision,
            compacted: self.meta.compacted,
        };
        let mut applier = Applier::new(&*self.cache, position);
        let mut verdicts = vec![];
        for entry in entries {
            let Some(command) = command(entry)? else { continue };
            self.expiring &= !matches!(command.body, Body::Expire(_));
            let ticket = command.ticket;
            let verdict = applier.apply(command);
            if ticket.origin == self.habits.origin && ticket.number != NOBODY {
                verdicts.push((ticket.number, verdict));
            }
        }
        let (events, after) = applier.finish();
        (self.meta.revision, self.meta.compacted) = (after.revision, after.compacted);
        self.state.write(&events, &self.meta)?;
        // First visible, then acknowledged: a reader who heard of a write sees it.
        self.cache.publish(&events, after);
        self.member.applied(self.meta.applied);
        for (number, verdict) in verdicts {
            self.answer(number, verdict);
        }
        Ok(after.compacted > position.compacted)
    }

    fn answer(&mut self, number: u64, verdict: Verdict) {
        let Some(answer) = self.waiting.remove(&number) else {
            return;
        };
        let _ = answer.send(match verdict {
            Verdict::Done(outcomes) => Ok(outcomes),
            Verdict::Refused { index, current } => Err(StoreError::Precondition { index, current }),
            Verdict::Future { asked } => Err(StoreError::Future {
                asked,
                current: self.meta.revision,
            }),
        });
    }

    fn due_compaction(&mut self, monotonic: Duration) -> Option<u64> {
        let keep = self.habits.keep_history?;
        if monotonic.saturating_sub(self.mark.0) < keep {
            return None;
        }
        let (_, old) = std::mem::replace(&mut self.mark, (monotonic, self.meta.revision));
        (old > self.meta.compacted).then_some(old)
    }

    /// Whoever proposed under a leadership that is over cannot know the outcome.
    fn notice_role(&mut self) {
        let leads = self.member.leads();
        if self.led && !leads {
            for (_, answer) in self.waiting.drain() {
                let _ = answer.send(Err(StoreError::Uncertain));
            }
            self.expiring = false;
        }
        self.led = leads;
    }
}

/// One refusal for each of many callers; the error itself cannot be cloned.
fn refusal(error: &StoreError) -> StoreError {
    match error {
        StoreError::NotLeader { leader } => StoreError::NotLeader { leader: *leader },
        _ => StoreError::Overloaded,
    }
}

/// The command that an entry carries; `None` in Raft's own entries.
fn command(entry: Entry) -> Result<Option<Command>, StoreError> {
    let what = format!("log entry {}", entry.index);
    if entry.entry_type != EntryType::EntryNormal as i32 {
        let reason = "changes of membership are not known to this version".to_owned();
        return Err(StoreError::Format { what, reason });
    }
    if entry.data.is_empty() {
        return Ok(None);
    }
    let command = Command::decode(entry.data.into());
    command.map(Some).map_err(|error| StoreError::Format {
        what,
        reason: error.0.to_owned(),
    })
}
