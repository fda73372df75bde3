//! The thread that turns the core: takes inputs, persists, answers.
//!
//! ```text
//! callers ──inputs──▶ driver ──jobs──▶ writer (one write and one sync per group)
//!                        ▲                │
//!                        └───persisted────┘
//! ```
//! When nothing else waits, or the disk is quick, the driver persists by itself:
//! thread hops would cost as much as the disk. When more waits for a slow one, the
//! writer syncs one group while the driver takes in the next and applies the last.
//! Before it takes a group the driver rests while many write (`driver/pace.rs`).
//!
//! While the disk under the log or the state takes nothing, the core is
//! suspended (`core/suspension.rs`), and both are tried again once a second.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base::Clock;
use tokio::sync::watch;
use tracing::warn;

use crate::core::{Core, Turn, addressed};
use crate::error::StoreError;
use crate::log::Log;
use crate::membership::Peer;
use crate::metrics::Counters;
use crate::parcel::Parcel;
use crate::raft::Job;
use crate::upkeep::{Chore, Upkeep};
use inbox::INPUTS_MAX;
pub use inbox::{Inbox, Input, Slot, Written, inbox};
use pace::{Pace, Round};
pub use transport::{NoPeers, Transport};
use writer::Writer;
pub use writer::write;

mod care;
mod inbox;
mod pace;
mod transport;
mod writer;

/// Raft's tick, when there are peers.
const TICK: Duration = Duration::from_millis(50);
/// How often the store looks for entries to expire and history to compact.
const CHORES: Duration = Duration::from_secs(1);
/// So long after a commit the others are told of it, unless more is written meanwhile, which tells them, too: a lone
/// writer comes back sooner than this.
const WORD: Duration = Duration::from_millis(1);
/// Bytes of calls taken in one go.
const INPUT_BYTES_MAX: usize = 1 << 20;

/// See the module.
pub struct Driver {
    core: Core,
    log: Arc<Mutex<Log>>,
    inputs: Inbox,
    writer: Writer,
    pace: Pace,
    /// Who was answered last was answered after this.
    answered: Option<Instant>,
    transport: Box<dyn Transport>,
    /// What the transport was told last.
    peers: Vec<Peer>,
    upkeep: Upkeep,
    clock: Arc<dyn Clock>,
    flush_log_bytes: u64,
    /// The log's size when a flush was last asked for.
    flushed_at: u64,
    next_tick: Instant,
    next_chores: Instant,
    /// When the others are to be told how far entries are committed.
    next_word: Option<Instant>,
    stopping: bool,
    /// Why the log takes nothing, while this is so.
    ailing: Option<String>,
    /// Tells others why nothing is written.
    alarm: watch::Sender<Option<String>>,
    /// Whether the cache alone answers reads linearizably.
    local_reads: Arc<AtomicBool>,
    /// Bytes that the state may take.
    quota: u64,
    /// Bytes that it takes, while that is too much; else 0.
    full: Arc<AtomicU64>,
    counters: Arc<Counters>,
    next_tidying: Instant,
}

/// What a driver is made of.
pub struct Parts {
    /// What it turns.
    pub core: Core,
    /// Where jobs go.
    pub log: Arc<Mutex<Log>>,
    /// Where inputs come from.
    pub inputs: Inbox,
    /// The other end of `inputs`, for the writer.
    pub notices: Slot,
    /// The way to the other members.
    pub transport: Box<dyn Transport>,
    /// The background thread.
    pub upkeep: Upkeep,
    /// Wall-clock time for expiry.
    pub clock: Arc<dyn Clock>,
    /// Kept up to date by the driver: this member is all of the group, so what
    /// its cache holds is the latest there is.
    pub local_reads: Arc<AtomicBool>,
    /// Why no writes are taken, while this is so.
    pub alarm: watch::Sender<Option<String>>,
    /// A flush is asked for each time the log has grown by this.
    pub flush_log_bytes: u64,
    /// What the writer's thread begins with.
    pub at_work: fn(),
    /// Bytes that the state may take; 0 for no limit.
    pub quota: u64,
    /// Kept up to date: bytes that it takes, while that is too much; else 0.
    pub full: Arc<AtomicU64>,
    /// What is counted.
    pub counters: Arc<Counters>,
}

impl Driver {
    /// Puts the driver together and starts the writer.
    pub fn new(parts: Parts) -> Result<Driver, StoreError> {
        let now = Instant::now();
        Ok(Driver {
            writer: Writer::start(parts.log.clone(), parts.notices, parts.at_work)?,
            core: parts.core,
            log: parts.log,
            inputs: parts.inputs,
            pace: Pace::default(),
            answered: None,
            transport: parts.transport,
            peers: vec![],
            upkeep: parts.upkeep,
            clock: parts.clock,
            flush_log_bytes: parts.flush_log_bytes,
            flushed_at: 0,
            next_tick: now + TICK,
            next_chores: now + CHORES,
            next_word: None,
            stopping: false,
            ailing: None,
            alarm: parts.alarm,
            local_reads: parts.local_reads,
            quota: parts.quota,
            full: parts.full,
            counters: parts.counters,
            next_tidying: now,
        })
    }

    /// Works until a member that decides alone can serve: everything committed
    /// before is applied. With others, this may take until they are there.
    pub fn settle(&mut self) -> Result<(), StoreError> {
        self.pump()?;
        while self.core.alone() && !self.core.settled() {
            self.gather()?;
            self.pump()?;
            if let Some(reason) = self.core.suspended() {
                return Err(StoreError::Stopped(reason.to_owned()));
            }
        }
        self.upkeep.ask(Chore::Sweep);
        Ok(())
    }

    /// Works until the store is closed or cannot go on.
    pub fn run(&mut self) -> Result<(), StoreError> {
        // What a disk does not take now was promised to nobody.
        while !(self.stopping && (self.writer.outstanding == 0 || self.ailing.is_some())) {
            self.gather()?;
            self.pump()?;
        }
        Ok(())
    }

    /// Ends: refuses who still waits; no thread is left.
    pub fn finish(mut self, why: impl Fn() -> StoreError) {
        self.core.abandon(&why);
        while let Some(input) = self.inputs.next() {
            match input {
                Input::Call(_, call) => drop(call.answer.send(Err(why()))),
                Input::Read(read) => drop(read.send(Err(why()))),
                // Status: who asked sees that nobody answers. The rest concerns a core that works.
                _ => {}
            }
        }
    }

    /// Waits for inputs and takes in what there is.
    fn gather(&mut self) -> Result<(), StoreError> {
        let (mut calls, mut bytes, mut round) = (vec![], 0, None::<Round>);
        let mut next = self.wait();
        if let Some(Input::Call(came, _)) = &next {
            self.rest(*came);
        }
        for taken in 1.. {
            match next {
                None => break,
                Some(Input::Call(came, call)) => {
                    bytes += call.data.len();
                    match &mut round {
                        Some(round) => round.add(came),
                        None => round = Some(Round::of(came)),
                    }
                    calls.push(call);
                }
                Some(Input::Read(clearance)) => self.core.read(clearance),
                Some(Input::Persisted(written)) => self.written(written),
                Some(Input::Ailing(reason)) => self.ailing = Some(reason),
                Some(Input::Stop) => self.stopping = true,
                Some(other) => self.hear(other)?,
            }
            // Before the next one is taken: it would be lost.
            if taken == INPUTS_MAX || bytes >= INPUT_BYTES_MAX {
                break;
            }
            next = self.inputs.next();
        }
        if let Some(round) = round {
            self.pace.took(&round, self.core.under_way(), self.answered);
        }
        self.core.submit(calls);
        self.keep_time()
    }

    /// Lets more proposals come to one that came then, while many write.
    fn rest(&mut self, came: Instant) {
        if let Some(until) = self.pace.rest(came, Instant::now()) {
            // Those who come meanwhile wake nobody. What is under way goes on as soon as the disk or another member
            // says something.
            self.inputs.rest(until);
        }
    }

    /// Takes in what comes from other members, or is about them.
    fn hear(&mut self, input: Input) -> Result<(), StoreError> {
        match input {
            Input::Parcel(from, parcel) => {
                if let Err(error) = self.core.receive(from, parcel)? {
                    warn!(%error, "message from another server refused");
                }
            }
            Input::Arrival(arrival) => {
                if let Err(error) = self.core.arrive(*arrival) {
                    warn!(%error, "snapshot from another server refused");
                } else {
                    self.counters.snapshots_installed.inc();
                }
                // At once: the next message may be about what is in it.
                self.pump()?;
            }
            Input::Met(peer) => self.transport.meet(peer),
            Input::Shipped(to, arrived) => self.core.snapshot_sent(to, arrived),
            Input::Unreachable(id) => self.core.unreachable(id),
            Input::HungUp(id) => self.core.hung_up(id),
            Input::Status(asked) => drop(asked.send(self.core.status())),
            Input::Copy(asked) => drop(asked.send(self.core.copy())),
            Input::Call(..) | Input::Read(_) | Input::Persisted(_) | Input::Ailing(_) | Input::Stop => {}
        }
        Ok(())
    }

    fn wait(&mut self) -> Option<Input> {
        let until = if self.core.solitary() {
            self.next_chores
        } else {
            self.next_tick.min(self.next_chores)
        };
        self.inputs
            .wait(self.next_word.map_or(until, |word| until.min(word)))
    }

    fn keep_time(&mut self) -> Result<(), StoreError> {
        let now = Instant::now();
        if now >= self.next_tick {
            // After a pause (a suspended machine) ticks are not made up for.
            self.next_tick = now + TICK;
            self.core.tick();
        }
        if self.next_word.is_some_and(|word| now >= word) {
            self.core.tell_commit();
        }
        if now >= self.next_chores {
            self.next_chores = now + CHORES;
            let now_ms = u64::try_from(self.clock.now().as_millisecond()).unwrap_or(0);
            self.core.chores(now_ms, self.clock.monotonic())?;
            self.measure(now);
            self.core.retry()?;
            if self.core.stuck() {
                self.upkeep.ask(Chore::Mend);
            }
        }
        Ok(())
    }

    fn pump(&mut self) -> Result<(), StoreError> {
        loop {
            let began = Instant::now();
            let Some(turn) = self.core.turn()? else { break };
            let Turn {
                parcels,
                shipments,
                job,
                applied,
                compacted,
            } = turn;
            if applied > 0 {
                self.answered = Some(began);
                self.counters.applies.observe(began.elapsed().as_secs_f64());
            }
            self.send(parcels);
            self.counters.snapshots_sent.inc_by(shipments.len() as u64);
            shipments
                .into_iter()
                .for_each(|shipment| self.transport.ship(shipment));
            if compacted {
                self.upkeep.ask(Chore::Sweep);
            }
            if let Some(job) = job {
                self.persist(job)?;
            }
        }
        if self.peers != self.core.peers() {
            self.peers = self.core.peers().to_vec();
            self.transport.peers(&self.peers);
        }
        self.next_word = match self.core.owes_word() {
            true => self.next_word.or_else(|| Some(Instant::now() + WORD)),
            false => None,
        };
        self.raise_alarm();
        self.local_reads
            .store(self.core.alone() && self.core.settled(), Ordering::Release);
        Ok(())
    }

    fn persist(&mut self, job: Job) -> Result<(), StoreError> {
        if self.writer.outstanding > 0 || (job.must_sync && !self.pace.is_quick() && !self.inputs.is_empty())
        {
            return self.writer.send(job);
        }
        let (mut jobs, began) = (vec![job], Instant::now());
        if let Err(error) = write(&self.log, &jobs) {
            self.ailing = Some(error.to_string());
            return jobs.drain(..).try_for_each(|job| self.writer.send(job));
        }
        let took = began.elapsed();
        self.written(Written { jobs, took });
        Ok(())
    }

    fn written(&mut self, written: Written) {
        self.ailing = None;
        self.writer.outstanding = self.writer.outstanding.saturating_sub(written.jobs.len());
        if written.jobs.iter().any(|job| job.must_sync) {
            self.pace.wrote(written.took);
        }
        for job in written.jobs {
            self.core.persisted(job.number);
            self.send(job.messages.into_iter().map(addressed).collect());
        }
        self.look_after_log();
    }

    fn send(&mut self, parcels: Vec<(u64, Parcel)>) {
        for (to, parcel) in parcels {
            self.transport.send(to, parcel);
        }
    }
}
