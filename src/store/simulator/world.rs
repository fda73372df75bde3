//! One simulated machine with its clients and watchers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Random, SeededRandom};
use tokio::sync::oneshot;

use super::disk::{Crash, SimDisk};
use super::history::{History, Known};
use super::memory::MemoryState;
use crate::cache::Cache;
use crate::config::StoreConfig;
use crate::core::Core;
use crate::error::StoreError;
use crate::log::Log;
use crate::open::{self, Opened};
use crate::plant::Plant;
use crate::raft::Job;
use crate::state::State;
use crate::types::{ListQuery, Outcome};
use crate::watch::Watch;

mod asking;
mod stats;
mod watching;
mod writing;

pub use stats::Stats;
use watching::Lazy;

const SEGMENT_BYTES: u64 = 8192;

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
}
