//! The background thread that keeps the folder small and appending quick:
//! flushes the state, recycles log segments, prefills spares, sweeps away
//! compacted history. None of it is urgent; failures are logged and tried again.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tracing::{debug, warn};

use crate::cache::Cache;
use crate::disk::Disk;
use crate::error::StoreError;
use crate::log::{self, Log};
use crate::state::State;

/// Pause between portions of sweeping, so that it never competes with clients.
const SWEEP_PAUSE: Duration = Duration::from_millis(5);
/// A chore that fails again and again is told of this often.
const COMPLAINTS: Duration = Duration::from_secs(30);
/// How many chores there are.
const CHORES: usize = 5;

/// Something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chore {
    /// Flush the state, then recycle the segments that it covers.
    Flush,
    /// Prefill a spare segment.
    Spare,
    /// Remove what compaction made unreachable.
    Sweep,
    /// Make the state take writes again, after it did not.
    Mend,
    /// Give room back that deletions have left.
    Defragment,
}

/// The thread and the way to it. Dropping it ends the thread.
pub struct Upkeep {
    chores: Option<Sender<Chore>>,
    flags: Arc<Flags>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Flags {
    /// One per chore: it is waiting or being done.
    pending: [AtomicBool; CHORES],
    stopping: AtomicBool,
}

struct Worker {
    log: Arc<Mutex<Log>>,
    disk: Arc<dyn Disk>,
    state: Arc<dyn State>,
    cache: Arc<Cache>,
    flags: Arc<Flags>,
}

impl Upkeep {
    /// Starts the thread, which begins with `at_work`: the log is locked while it takes a segment back, and writes
    /// wait for that.
    pub fn start(
        log: Arc<Mutex<Log>>,
        disk: Arc<dyn Disk>,
        state: Arc<dyn State>,
        cache: Arc<Cache>,
        at_work: fn(),
    ) -> Result<Upkeep, StoreError> {
        let (chores, todo) = channel();
        let flags = Arc::new(Flags::default());
        let worker = Worker {
            log,
            disk,
            state,
            cache,
            flags: flags.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("store-upkeep".into())
            .spawn(move || {
                at_work();
                worker.run(todo);
            })
            .map_err(|source| StoreError::Io {
                what: "starting a thread".into(),
                source,
            })?;
        Ok(Upkeep {
            chores: Some(chores),
            flags,
            thread: Some(thread),
        })
    }

    /// Asks for a chore, unless it is already on its way.
    pub fn ask(&self, chore: Chore) {
        let Some(chores) = &self.chores else { return };
        if !self.flags.pending[chore as usize].swap(true, Ordering::AcqRel) {
            let _ = chores.send(chore);
        }
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.flags.stopping.store(true, Ordering::Release);
        self.chores.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn run(self, todo: Receiver<Chore>) {
        let mut told: [Option<Instant>; CHORES] = [None; CHORES];
        while let Ok(chore) = todo.recv() {
            if self.flags.stopping.load(Ordering::Acquire) {
                return;
            }
            // Before the work: what is asked for during it may come too late for it.
            self.flags.pending[chore as usize].store(false, Ordering::Release);
            let done = match chore {
                Chore::Flush => self.flush(),
                Chore::Spare => self.spare(),
                Chore::Sweep => self.sweep(),
                Chore::Mend => self.state.renew(),
                Chore::Defragment => self.state.defragment(),
            };
            let told = &mut told[chore as usize];
            match done {
                Ok(()) => *told = None,
                Err(_) if told.is_some_and(|at| at.elapsed() < COMPLAINTS) => {}
                Err(error) => {
                    warn!(?chore, %error, "store upkeep failed");
                    *told = Some(Instant::now());
                }
            }
        }
    }

    fn flush(&self) -> Result<(), StoreError> {
        let applied = self.state.flush()?;
        recycle(&self.log, &*self.disk, applied)
    }

    fn spare(&self) -> Result<(), StoreError> {
        let maker = {
            let mut log = lock(&self.log);
            if !log.wants_spare() {
                return Ok(());
            }
            log.spare_maker()
        };
        // Without the lock: prefilling may take as long as the disk likes.
        let spare = maker.make()?;
        lock(&self.log).reuse(spare)
    }

    fn sweep(&self) -> Result<(), StoreError> {
        let compacted = self.cache.position().compacted;
        while self.state.sweep(compacted)? {
            if self.flags.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            std::thread::sleep(SWEEP_PAUSE);
        }
        debug!(compacted, "compacted history is swept away");
        Ok(())
    }
}

/// Recycles the segments whose entries are all at or before `applied`, which
/// must be durable in the state.
pub fn recycle(log: &Mutex<Log>, disk: &dyn Disk, applied: u64) -> Result<(), StoreError> {
    let mut released = VecDeque::from(lock(log).release(applied));
    while let Some(segment) = released.pop_front() {
        if let Err(error) = log::blank(disk, &segment) {
            // They are on the disk still: a later one must not be blanked first,
            // or the chain would have a hole.
            released.push_front(segment);
            lock(log).keep(released);
            return Err(error);
        }
        // In a statement of its own: the lock must be free again below.
        let reused = lock(log).reuse(segment);
        if let Err(error) = reused {
            lock(log).keep(released);
            return Err(error);
        }
    }
    Ok(())
}

fn lock(log: &Mutex<Log>) -> std::sync::MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}
