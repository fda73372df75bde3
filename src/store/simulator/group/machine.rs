//! One simulated machine: a disk, a state, and a process that comes and goes.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base::{Random, SeededRandom};
use tokio::sync::oneshot;

use super::super::disk::{Crash, SimDisk};
use super::super::memory::MemoryState;
use super::super::tidy;
use crate::cache::Cache;
use crate::call::Call;
use crate::command::{Body, Command, Ticket};
use crate::config::StoreConfig;
use crate::core::{Core, Turn};
use crate::disk::Disk;
use crate::driver;
use crate::error::StoreError;
use crate::history::History;
use crate::log::Log;
use crate::membership::Peer;
use crate::open::{self, Opened};
use crate::plant::{Plant, Plants};
use crate::raft::Job;
use crate::state::State;
use crate::types::Outcome;
use crate::watch::Watch;
use crate::witness::{Keep, Witness};

const SEGMENT_BYTES: u64 = 8192;
/// So little that snapshots are needed all the time.
const KEEP_LOG_BYTES: usize = 3000;

/// So little that a witness reads most of what it hands over back from its disk.
const WITNESS_LOG_BYTES: usize = 200;
/// So little that what it need not keep is soon gone.
const WITNESS_SEGMENT_BYTES: u64 = 4096;

/// The file of a simulated witness: replaced whole, or not at all.
#[derive(Default)]
struct Memo(Mutex<Option<Vec<u8>>>);

impl Keep for Memo {
    fn get(&self) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.0.lock().expect("a simulated file").clone())
    }

    fn put(&self, bytes: &[u8]) -> Result<(), StoreError> {
        *self.0.lock().expect("a simulated file") = Some(bytes.to_vec());
        Ok(())
    }
}

/// What a call comes to.
pub type Outcomes = oneshot::Receiver<Result<Vec<Outcome>, StoreError>>;

/// The process, as long as it runs.
pub struct Process {
    pub core: Core,
    pub cache: Arc<Cache>,
    pub state: Arc<dyn State>,
    pub old: History,
    pub log: Arc<Mutex<Log>>,
    pub origin: u64,
    pub calls: u64,
    /// Jobs with the step at which the writer gets to them.
    pub jobs: VecDeque<(Job, u64)>,
    /// The log has taken nothing the last time.
    ailing: bool,
    /// Sees everything, at once.
    pub master: Watch,
}

/// See the module.
pub struct Machine {
    pub id: u64,
    pub disk: SimDisk,
    pub memory: MemoryState,
    pub process: Option<Process>,
    /// It was removed, and has heard of it.
    pub gone: bool,
    /// It will never be there again, nor anything that was on it.
    pub lost: bool,
    /// The administrator has heard that its state is damaged.
    pub complained: bool,
    /// It keeps log and votes, and no state.
    pub witness: bool,
    /// What a witness keeps beside its log.
    memo: Arc<Memo>,
    /// Every event up to this one was seen here.
    pub seen: u64,
    /// How far its wall clock is off, in milliseconds.
    pub skew_ms: u64,
    /// How many steps its disk takes at most.
    pub disk_steps: u64,
    /// Its disk hangs, and it stops in this step, with this vote unsynced.
    pub hangs: Option<(u64, u64)>,
    /// So often it stops again as soon as it has been asked something.
    pub stumbles: u64,
    plants: Plants,
    join: Option<u64>,
}

impl Machine {
    /// Makes a machine, and the folder of a member on it.
    pub fn new(
        random: &SeededRandom,
        join: Option<u64>,
        witness: bool,
        plants: Plants,
    ) -> Result<Machine, StoreError> {
        let elder = random.below(4) == 0 && plants.is_empty();
        let mut machine = Machine {
            id: 0,
            disk: SimDisk::default(),
            memory: MemoryState::new(plants),
            process: None,
            gone: false,
            lost: false,
            complained: false,
            witness,
            memo: Arc::default(),
            seen: 0,
            skew_ms: random.below(100_000),
            disk_steps: 1 + random.below(8),
            hangs: None,
            stumbles: 0,
            plants: if elder {
                Plants::one(Some(Plant::Elder))
            } else {
                plants
            },
            join,
        };
        machine.boot(random)?;
        Ok(machine)
    }

    /// Starts the process on what the disk holds.
    pub fn boot(&mut self, random: &SeededRandom) -> Result<(), StoreError> {
        let mut config = StoreConfig::new("simulated");
        config.segment_bytes = SEGMENT_BYTES;
        config.keep_log_bytes = KEEP_LOG_BYTES;
        config.watch_window = 1 + random.below(40) as usize;
        config.random = Arc::new(SeededRandom::new(random.number()));
        config.keep_history = Some(Duration::from_secs(30));
        config.join = self.join;
        config.plants = self.plants;
        let disk: Arc<dyn Disk> = Arc::new(self.disk.clone());
        let state: Arc<dyn State> = match self.witness {
            true => Arc::new(Witness::kept(self.memo.clone(), self.plants)?),
            false => Arc::new(self.memory.clone()),
        };
        config.witness = self.witness;
        if self.witness {
            config.keep_log_bytes = WITNESS_LOG_BYTES;
            config.segment_bytes = WITNESS_SEGMENT_BYTES;
        }
        let (mut log, recovered, meta) = open::resume(&config, disk.clone(), state.meta()?)?;
        self.id = log.identity().member;
        config.here = Peer { id: 0, ..self.peer() };
        log.forget_sync = self.plants.has(Plant::AcknowledgeUnsynced);
        log.sync_again = self.plants.has(Plant::SyncAgain);
        let origin = random.number();
        let opened = open::assemble(&config, state, disk, log, recovered, meta, origin)?;
        let Opened {
            core,
            cache,
            state,
            log,
            ..
        } = opened;
        let old = History::new(state.clone(), cache.clone());
        self.seen = self.seen.max(cache.position().compacted);
        let master = Watch::new(cache.clone(), old.clone(), "", self.seen)?;
        self.process = Some(Process {
            core,
            cache,
            state,
            old,
            log,
            origin,
            calls: 0,
            jobs: VecDeque::new(),
            ailing: false,
            master,
        });
        Ok(())
    }

    /// How it is known to others.
    pub fn peer(&self) -> Peer {
        Peer {
            id: self.id,
            name: format!("m{:x}", self.id),
            address: format!("{:x}:6443", self.id),
            witness: self.witness,
        }
    }

    /// Stops it, as a power cut or a kill does.
    pub fn crash(&mut self, random: &SeededRandom) {
        (self.process, self.hangs) = (None, None);
        let how = if random.below(3) == 0 {
            Crash::Kill
        } else {
            Crash::PowerCut
        };
        self.disk.crash(how, random);
        self.memory.crash();
    }

    /// A turn of the upkeep thread.
    pub fn upkeep(&mut self) {
        let Some(process) = &mut self.process else { return };
        let plants = self.plants;
        tidy(&*process.state, &process.cache, &process.log, &self.disk, plants);
    }
}

impl Process {
    /// Hands a command to the core.
    pub fn call(&mut self, body: Body, now_ms: u64) -> Outcomes {
        self.calls += 1;
        let ticket = Ticket {
            origin: self.origin,
            number: self.calls,
        };
        let membership = matches!(body, Body::Member(_));
        let data = Command { ticket, now_ms, body }.encode();
        let (answer, outcome) = oneshot::channel();
        self.core.submit(vec![Call {
            number: self.calls,
            membership,
            data,
            answer,
        }]);
        outcome
    }

    /// The writer takes the jobs whose time has come as one group. Returns what
    /// goes out then.
    pub fn write_due(&mut self, now: u64) -> Vec<::raft::eraftpb::Message> {
        let due = self.jobs.iter().take_while(|(_, at)| *at <= now).count();
        let jobs: Vec<Job> = self.jobs.drain(..due).map(|(job, _)| job).collect();
        self.write(jobs, now)
    }

    /// Persists jobs, and says so; or keeps them for another attempt.
    pub fn write(&mut self, jobs: Vec<Job>, now: u64) -> Vec<::raft::eraftpb::Message> {
        let mut messages = vec![];
        if jobs.is_empty() {
            return messages;
        }
        if let Err(error) = driver::write(&self.log, &jobs) {
            self.ailing = true;
            self.core.suspend(&error.to_string());
            let jobs = jobs.into_iter().rev();
            jobs.for_each(|job| self.jobs.push_front((job, now)));
            return messages;
        }
        self.ailing = false;
        for job in jobs {
            self.core.persisted(job.number);
            messages.extend(job.messages);
        }
        messages
    }

    /// Tries once more what the state did not take.
    pub fn mend(&mut self) -> Result<(), StoreError> {
        if self.core.stuck() {
            match self.state.renew() {
                // It cannot be copied, and stays as it is.
                Err(StoreError::Damaged { .. }) => return Ok(()),
                renewed => renewed?,
            }
            self.core.retry()?;
        }
        if !self.ailing && !self.core.stuck() && self.core.suspended().is_some() {
            self.core.resume();
        }
        Ok(())
    }

    /// The next piece of work.
    pub fn turn(&mut self) -> Result<Option<Turn>, StoreError> {
        self.core.turn()
    }
}
