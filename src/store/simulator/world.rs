//! One simulated machine with its clients and watchers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Random, SeededRandom};
use tokio::sync::oneshot;

use super::disk::{Crash, SimDisk, TROUBLES};
use super::history::{History, Known};
use super::memory::MemoryState;
use super::seeds::Tally;
use super::tidy;
use crate::cache::Cache;
use crate::command::{Body, Command, Ticket};
use crate::config::StoreConfig;
use crate::core::{Call, Core};
use crate::driver;
use crate::error::StoreError;
use crate::log::Log;
use crate::open::{self, Opened};
use crate::plant::{Plant, Plants};
use crate::raft::Job;
use crate::state::State;
use crate::types::{Expect, ListQuery, Op, Outcome, Record};
use crate::watch::Watch;

const SEGMENT_BYTES: u64 = 8192;
const PREFIXES: [&str; 4] = ["", "/g/a/", "/g/b/x", "/g/"];

/// What happened, to see that enough did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub acknowledged: u64,
    pub refused: u64,
    pub crashes: u64,
    pub compactions: u64,
    pub expired: u64,
    pub reads: u64,
    /// How often the disk took nothing.
    pub suspended: u64,
    /// Writes of which nobody knew, because of that.
    pub uncertain: u64,
}

impl Tally for Stats {
    fn add(&mut self, other: &Stats) {
        self.acknowledged += other.acknowledged;
        self.refused += other.refused;
        self.crashes += other.crashes;
        self.compactions += other.compactions;
        self.expired += other.expired;
        self.reads += other.reads;
        self.suspended += other.suspended;
        self.uncertain += other.uncertain;
    }
}

type Outcomes = Result<Vec<Outcome>, StoreError>;

/// The process, as long as it runs.
struct Process {
    core: Core,
    cache: Arc<Cache>,
    state: Arc<dyn State>,
    old: crate::history::History,
    log: Arc<Mutex<Log>>,
    origin: u64,
    calls: u64,
    /// Jobs with the step at which the writer gets to them.
    jobs: VecDeque<(Job, u64)>,
    /// The log has taken nothing the last time.
    ailing: bool,
    waiting: Vec<(usize, oneshot::Receiver<Outcomes>)>,
    /// Reads with the revision that they must see.
    reading: Vec<(u64, oneshot::Receiver<Result<(), StoreError>>)>,
    /// Sees everything, at once.
    master: Watch,
    /// See their prefix, now and then.
    watches: Vec<Lazy>,
}

struct Lazy {
    watch: Watch,
    prefix: &'static str,
    /// Where it began, or the last event that it saw.
    last: u64,
}

/// See the module.
pub struct World {
    random: SeededRandom,
    disk: SimDisk,
    memory: Arc<MemoryState>,
    plant: Option<Plant>,
    history: History,
    process: Option<Process>,
    now_ms: u64,
    step: u64,
    texts: u64,
    stats: Stats,
}

impl World {
    pub fn new(seed: u64, plant: Option<Plant>) -> Result<World, String> {
        let mut world = World {
            random: SeededRandom::new(seed),
            disk: SimDisk::default(),
            memory: Arc::default(),
            plant,
            history: History::default(),
            process: None,
            now_ms: 1_000_000,
            step: 0,
            texts: 0,
            stats: Stats::default(),
        };
        world.boot()?;
        Ok(world)
    }

    /// Lets something happen, then the consequences.
    pub fn step(&mut self) -> Result<(), String> {
        self.step += 1;
        self.now_ms += self.random.below(500);
        match self.random.below(100) {
            0..50 => self.submit(),
            50..62 => self.read(),
            62..75 => self.poll_watches()?,
            75..80 => self.look_back()?,
            80..84 => self.upkeep(),
            84..88 => self.chores(),
            88..90 => self.compact(),
            90..92 => self.disk.light_fuse(self.random.below(6)),
            92..94 => return self.crash(),
            94..97 => self.trouble(),
            _ => {}
        }
        self.write_due();
        if self.disk.dead() {
            return self.crash();
        }
        self.pump()
    }

    /// Lets everything come to rest and compares the whole.
    pub fn finish(mut self) -> Result<Stats, String> {
        self.crash()?;
        for _ in 0..5 {
            self.now_ms += 60_000;
            self.chores();
            self.rest()?;
        }
        self.poll_watches()?;
        self.history.check_calls()?;
        let left = self.history.entries();
        if left.iter().any(|entry| entry.expires_ms.is_some()) {
            return Err("an entry outlives its time".into());
        }
        let process = self.process.as_ref().ok_or("no process")?;
        if process.cache.list(&ListQuery::default()).entries != left {
            return Err("the cache differs from what the events make".into());
        }
        if process.state.load().ok() != Some(left) {
            return Err("the state differs from what the events make".into());
        }
        Ok(self.stats)
    }

    fn process(&mut self) -> &mut Process {
        self.process.as_mut().expect("a process")
    }

    /// Starts the process on what the disk holds.
    fn boot(&mut self) -> Result<(), String> {
        let process = self.open().map_err(|error| format!("cannot open: {error}"))?;
        let (found, seen) = (process.cache.position().revision, self.history.revision());
        self.process = Some(process);
        if self.disk.dead() {
            return Ok(());
        }
        // Not yet settled: what was seen must be there when it is.
        self.rest()?;
        let process = self.process.as_ref().ok_or("no process")?;
        let now = process.cache.position().revision;
        if now < seen {
            return Err(format!(
                "events up to {seen} were seen, now there are {now} (flushed {found})"
            ));
        }
        let oldest = process.cache.position().compacted;
        let events = process
            .old
            .events("", oldest, seen, usize::MAX)
            .map_err(|e| e.to_string())?;
        if events != self.history.events("", oldest, seen) {
            return Err(format!("events up to {seen} are not those that were seen"));
        }
        self.history.check_calls()
    }

    fn open(&mut self) -> Result<Process, StoreError> {
        let mut config = StoreConfig::new("simulated");
        config.segment_bytes = SEGMENT_BYTES;
        config.watch_window = 1 + self.random.below(40) as usize;
        config.random = Arc::new(SeededRandom::new(self.random.number()));
        config.keep_history = Some(Duration::from_secs(20));
        let disk: Arc<SimDisk> = Arc::new(self.disk.clone());
        let state: Arc<dyn State> = self.memory.clone();
        let (mut log, recovered, meta) = open::resume(&config, disk.clone(), state.meta()?)?;
        log.forget_sync = self.plant == Some(Plant::AcknowledgeUnsynced);
        log.sync_again = self.plant == Some(Plant::SyncAgain);
        let origin = self.random.number();
        let Opened {
            core,
            cache,
            state,
            log,
            ..
        } = open::assemble(&config, state, disk, log, recovered, meta, origin)?;
        let old = crate::history::History::new(state.clone(), cache.clone());
        let seen = self.history.revision().max(cache.position().compacted);
        let master = Watch::new(cache.clone(), old.clone(), "", seen)?;
        Ok(Process {
            core,
            cache,
            state,
            old,
            log,
            origin,
            calls: 0,
            jobs: VecDeque::new(),
            ailing: false,
            waiting: vec![],
            reading: vec![],
            master,
            watches: vec![],
        })
    }

    fn crash(&mut self) -> Result<(), String> {
        self.stats.crashes += 1;
        self.process = None;
        let how = if self.random.below(3) == 0 {
            Crash::Kill
        } else {
            Crash::PowerCut
        };
        self.disk.crash(how, &self.random);
        self.memory.crash();
        self.boot()
    }

    fn submit(&mut self) {
        let mut calls = vec![];
        for _ in 0..1 + self.random.below(3) {
            let ops: Vec<Op> = (0..1 + self.random.below(3)).map(|_| self.op()).collect();
            let call = self.history.ask(&ops);
            let now_ms = self.now_ms;
            let process = self.process();
            process.calls += 1;
            let ticket = Ticket {
                origin: process.origin,
                number: process.calls,
            };
            let data = Command {
                ticket,
                now_ms,
                body: Body::Batch(ops),
            }
            .encode();
            let (answer, waiting) = oneshot::channel();
            process.waiting.push((call, waiting));
            calls.push(Call {
                number: ticket.number,
                membership: false,
                data,
                answer,
            });
        }
        self.process().core.submit(calls);
    }

    fn op(&mut self) -> Op {
        let kind = ["a", "b"][self.random.below(2) as usize];
        let key = format!("/g/{kind}/{}", ["x1", "x2", "y"][self.random.below(3) as usize]);
        let known = self.history.entry(&key).map_or(0, |entry| entry.revision);
        let expect = match self.random.below(8) {
            0 => Expect::Absent,
            1 => Expect::Present,
            2 | 3 => Expect::Revision(known),
            _ => Expect::Any,
        };
        if self.random.below(5) == 0 {
            return Op::Delete { key, expect };
        }
        self.texts += 1;
        let filler = "x".repeat(self.random.below(300) as usize);
        let text = format!("{{\"\",{},{filler}}}", self.texts).into();
        let ttl_seconds = (self.random.below(6) == 0).then_some(1 + self.random.below(9) as u32);
        Op::Put {
            key,
            record: Record {
                text,
                revision_at: 2,
                ttl_seconds,
                ..Record::default()
            },
            expect,
        }
    }

    fn read(&mut self) {
        let must_see = self.history.revision();
        let (clearance, cleared) = oneshot::channel();
        let process = self.process();
        process.reading.push((must_see, cleared));
        process.core.read(clearance);
        process.core.tick();
    }

    /// The disk below the log or the state takes nothing for a while.
    fn trouble(&mut self) {
        let trouble = TROUBLES[self.random.below(4) as usize];
        match self.random.below(3) {
            0 => self.memory.refuse(1 + self.random.below(4)),
            _ => self.disk.trouble(trouble, 1 + self.random.below(4)),
        }
    }

    fn chores(&mut self) {
        let (now_ms, before) = (self.now_ms, Duration::from_millis(self.now_ms));
        self.process()
            .core
            .chores(now_ms, before)
            .expect("chores over a simulated state");
        self.mend();
    }

    fn compact(&mut self) {
        let revision = self.random.below(self.history.revision() + 1);
        let (origin, now_ms) = (self.process().origin, self.now_ms);
        let body = Body::Compact(revision);
        let data = Command {
            ticket: Ticket { origin, number: 0 },
            now_ms,
            body,
        }
        .encode();
        let (answer, _) = oneshot::channel();
        self.process().core.submit(vec![Call {
            number: u64::MAX,
            membership: false,
            data,
            answer,
        }]);
    }

    /// A turn of the upkeep thread.
    fn upkeep(&mut self) {
        let (disk, plant) = (self.disk.clone(), self.plant);
        let process = self.process();
        let plants = Plants::one(plant);
        tidy(&*process.state, &process.cache, &process.log, &disk, plants);
    }

    /// The writer takes the jobs whose time has come as one group.
    fn write_due(&mut self) {
        let step = self.step;
        let process = self.process();
        let due = process.jobs.iter().take_while(|(_, at)| *at <= step).count();
        let jobs: Vec<Job> = process.jobs.drain(..due).map(|(job, _)| job).collect();
        if !jobs.is_empty() {
            self.write(jobs);
        }
    }

    /// Writes jobs, or keeps them for another attempt.
    fn write(&mut self, jobs: Vec<Job>) {
        let step = self.step;
        let process = self.process();
        match driver::write(&process.log, &jobs) {
            Ok(()) => {
                process.ailing = false;
                jobs.iter().for_each(|job| process.core.persisted(job.number));
            }
            Err(error) => {
                process.ailing = true;
                process.core.suspend(&error.to_string());
                let jobs = jobs.into_iter().rev();
                jobs.for_each(|job| process.jobs.push_front((job, step)));
                self.stats.suspended += 1;
            }
        }
        self.resume();
    }

    /// Tries once more what the state did not take.
    fn mend(&mut self) {
        let process = self.process();
        if process.core.stuck() {
            let _ = process.state.renew();
            process.core.retry().expect("a simulated state");
        }
        self.resume();
    }

    fn resume(&mut self) {
        let process = self.process();
        if !process.ailing && !process.core.stuck() && process.core.suspended().is_some() {
            process.core.resume();
        }
    }

    /// Turns the core until it is idle, then looks at what came out.
    fn pump(&mut self) -> Result<(), String> {
        while let Some(turn) = self.process().core.turn().map_err(|error| error.to_string())? {
            self.stats.compactions += u64::from(turn.compacted);
            let Some(job) = turn.job else { continue };
            let idle = self.process().jobs.is_empty();
            if idle && (!job.must_sync || self.random.below(2) == 0) {
                self.write(vec![job]);
                if self.disk.dead() {
                    return self.crash();
                }
            } else {
                let at = self.step + self.random.below(5);
                self.process().jobs.push_back((job, at));
            }
        }
        self.stats.suspended += u64::from(self.process().core.stuck());
        self.listen()
    }

    /// Takes in events, then answers: nothing is answered before it is visible.
    fn listen(&mut self) -> Result<(), String> {
        let process = self.process.as_mut().ok_or("no process")?;
        while let Some(event) = process.master.try_next() {
            let event = event.map_err(|error| format!("the master watch failed: {error}"))?;
            let due = event.previous.as_ref().and_then(|previous| previous.expires_ms);
            let deleted = event.kind == crate::types::Change::Delete;
            self.stats.expired += u64::from(deleted && due.is_some_and(|at| at <= self.now_ms));
            self.history.see(event)?;
        }
        if process.master.progress() != process.cache.position().revision {
            return Err("a watch that has all does not say so".into());
        }
        for (call, mut waiting) in std::mem::take(&mut process.waiting) {
            match waiting.try_recv() {
                Ok(Err(error))
                    if !matches!(
                        error,
                        StoreError::Precondition { .. } | StoreError::Unwritable { .. }
                    ) =>
                {
                    return Err(format!("a group of one answers {error}"));
                }
                Ok(answer) => match self.history.answered(call, answer.as_deref())? {
                    Known::Done => self.stats.acknowledged += 1,
                    Known::Refused => self.stats.refused += 1,
                    Known::Open => self.stats.uncertain += 1,
                },
                Err(_) => process.waiting.push((call, waiting)),
            }
        }
        for (must_see, mut reading) in std::mem::take(&mut process.reading) {
            match reading.try_recv() {
                Ok(Ok(())) if process.cache.position().revision < must_see => {
                    return Err(format!("a read does not see revision {must_see}"));
                }
                Ok(Ok(())) => self.stats.reads += 1,
                _ => process.reading.push((must_see, reading)),
            }
        }
        Ok(())
    }

    /// Lets all jobs through until nothing is on its way.
    fn rest(&mut self) -> Result<(), String> {
        for _ in 0..100 {
            self.pump()?;
            self.step += 10;
            self.mend();
            self.write_due();
            if self.disk.dead() {
                return self.crash();
            }
        }
        self.pump()?;
        let process = self.process();
        if !process.waiting.is_empty() || !process.reading.is_empty() || !process.core.settled() {
            return Err("no progress".into());
        }
        Ok(())
    }

    /// Opens, polls and closes lazy watches.
    fn poll_watches(&mut self) -> Result<(), String> {
        let prefix = PREFIXES[self.random.below(4) as usize];
        let count = self.random.below(20);
        let oldest = self.process().cache.position().compacted;
        let last = oldest + self.random.below(self.history.revision() - oldest + 3);
        let process = self.process.as_mut().ok_or("no process")?;
        for lazy in &mut process.watches {
            lazy.poll(&self.history, count)?;
        }
        process.watches.retain(|lazy| lazy.last != u64::MAX);
        if process.watches.len() < 6 {
            let watch = Watch::new(process.cache.clone(), process.old.clone(), prefix, last);
            let watch = watch.map_err(|error| format!("cannot watch from {last}: {error}"))?;
            process.watches.push(Lazy { watch, prefix, last });
        }
        Ok(())
    }

    /// Lists the past.
    fn look_back(&mut self) -> Result<(), String> {
        let position = self.process().cache.position();
        let revision = position.compacted + self.random.below(position.revision - position.compacted + 1);
        let prefix = PREFIXES[self.random.below(4) as usize];
        let query = ListQuery::prefix(prefix);
        let process = self.process();
        let listed = match process.cache.list_unchanged(&query, revision) {
            Some(listing) => listing.entries,
            None => {
                process
                    .old
                    .list_at(&query, revision)
                    .map_err(|error| error.to_string())?
                    .entries
            }
        };
        let mut expected = self.history.entries_at(revision);
        expected.retain(|entry| entry.key.starts_with(prefix));
        if listed == expected {
            Ok(())
        } else {
            Err(format!("the listing at {revision} is wrong"))
        }
    }
}

impl Lazy {
    fn poll(&mut self, history: &History, count: u64) -> Result<(), String> {
        for _ in 0..count {
            let Some(event) = self.watch.try_next() else {
                let until = self.watch.progress();
                return match history.events(self.prefix, self.last, until).is_empty() {
                    true => Ok(()),
                    false => Err(format!("a watch missed events before {until}")),
                };
            };
            match event {
                Ok(event) => {
                    let expected = history.events(self.prefix, self.last, event.revision);
                    if expected != std::slice::from_ref(&event) {
                        return Err(format!(
                            "a watch got event {} after {}",
                            event.revision, self.last
                        ));
                    }
                    self.last = event.revision;
                }
                Err(StoreError::Compacted { oldest }) if self.watch.progress() < oldest => {
                    self.last = u64::MAX;
                    return Ok(());
                }
                Err(error) => return Err(format!("a watch failed: {error}")),
            }
        }
        Ok(())
    }
}
