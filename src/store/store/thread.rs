//! The thread on which a store lives, from opening its folder to closing everything.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tracing::{error, info};

use super::inner::{Inner, gone};
use crate::cache::Cache;
use crate::config::StoreConfig;
use crate::driver::{Driver, Inbox, NoPeers, Parts, Slot, Transport};
use crate::error::StoreError;
use crate::history::History;
use crate::membership::Whoami;
use crate::metrics::Counters;
use crate::open::{self, Opened};
use crate::peers::{Door, Peers};
use crate::status::Leadership;
use crate::upkeep::{Upkeep, recycle};

/// The life of the store's thread.
pub(super) struct Thread {
    driver: Driver,
    opened: Shared,
    failure: Arc<OnceLock<String>>,
    local_reads: Arc<AtomicBool>,
    whoami: Whoami,
    leadership: watch::Receiver<Leadership>,
    alarm: watch::Receiver<Option<String>>,
    full: Arc<AtomicU64>,
    counters: Arc<Counters>,
    door: Door,
}

/// What is left to close when the driver has ended.
struct Shared {
    cache: Arc<Cache>,
    history: History,
    state: Arc<dyn crate::state::State>,
    disk: Arc<dyn crate::disk::Disk>,
    log: Arc<std::sync::Mutex<crate::log::Log>>,
}

impl Thread {
    pub(super) fn run(
        config: StoreConfig,
        received: Inbox,
        notices: Slot,
        inputs: Slot,
        ready: oneshot::Sender<Result<Inner, StoreError>>,
        runtime: Handle,
    ) {
        (config.at_open)();
        let origin = config.random.number();
        let (end, ended) = watch::channel(false);
        let thread = match Thread::start(&config, origin, received, notices, runtime) {
            Ok(thread) => thread,
            Err(error) => return drop(ready.send(Err(error))),
        };
        let inner = Inner {
            inputs,
            cache: thread.opened.cache.clone(),
            history: thread.opened.history.clone(),
            origin,
            numbers: AtomicU64::new(1),
            clock: config.clock,
            request_bytes_max: config.request_bytes_max,
            local_reads: thread.local_reads.clone(),
            failure: thread.failure.clone(),
            ended,
            whoami: thread.whoami,
            leadership: thread.leadership.clone(),
            alarm: thread.alarm.clone(),
            full: thread.full.clone(),
            quota: config.quota_bytes,
            counters: thread.counters.clone(),
            door: thread.door.clone(),
        };
        let _ = ready.send(Ok(inner));
        (config.at_work)();
        thread.work();
        end.send_replace(true);
    }

    fn start(
        config: &StoreConfig,
        origin: u64,
        inputs: Inbox,
        notices: Slot,
        runtime: Handle,
    ) -> Result<Thread, StoreError> {
        let Opened {
            core,
            cache,
            state,
            disk,
            log,
        } = open::open(config, origin)?;
        let upkeep = Upkeep::start(
            log.clone(),
            disk.clone(),
            state.clone(),
            cache.clone(),
            config.at_work,
        )?;
        let history = History::new(state.clone(), cache.clone());
        let local_reads = Arc::new(AtomicBool::new(false));
        let (whoami, leadership) = (core.whoami(), core.leadership());
        let door = Door::new(whoami, notices.clone(), history.clone());
        let transport: Box<dyn Transport> = match &config.dialer {
            Some(dialer) => Box::new(Peers::new(
                whoami,
                &config.here,
                dialer.clone(),
                notices.clone(),
                runtime,
            )),
            None => Box::new(NoPeers),
        };
        let (raise, alarm) = watch::channel(None);
        let (full, counters) = (Arc::<AtomicU64>::default(), Arc::<Counters>::default());
        log.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .count_in(counters.clone());
        let mut driver = Driver::new(Parts {
            alarm: raise,
            quota: config.quota_bytes,
            full: full.clone(),
            counters: counters.clone(),
            core,
            log: log.clone(),
            inputs,
            notices,
            transport,
            upkeep,
            clock: config.clock.clone(),
            local_reads: local_reads.clone(),
            flush_log_bytes: config.flush_log_bytes,
            at_work: config.at_work,
        })?;
        driver.settle()?;
        info!(dir = %config.dir.display(), revision = cache.position().revision, "store is open");
        let opened = Shared {
            cache,
            history,
            state,
            disk,
            log,
        };
        Ok(Thread {
            driver,
            opened,
            failure: Arc::default(),
            local_reads,
            whoami,
            leadership,
            alarm,
            full,
            counters,
            door,
        })
    }

    fn work(mut self) {
        // Raft's library panics where it sees a contradiction: that stops this
        // member, but whoever waits shall hear of it.
        let worked = catch_unwind(AssertUnwindSafe(|| self.driver.run()))
            .unwrap_or_else(|_| Err(StoreError::Stopped("its thread panicked".into())));
        let failed = worked.is_err();
        if let Err(error) = worked {
            error!(%error, "the store stopped");
            let _ = self.failure.set(error.to_string());
        } else {
            self.local_reads.store(false, Ordering::Release);
        }
        let failure = self.failure;
        self.driver.finish(|| gone(&failure));
        self.opened.close(failed);
    }
}

impl Shared {
    /// After a failure nothing more is written: what the disk holds is what counts.
    fn close(self, failed: bool) {
        self.cache.close();
        self.history.close();
        if failed {
            return;
        }
        let flushed = self.state.flush();
        let done = flushed.and_then(|applied| recycle(&self.log, &*self.disk, applied));
        if let Err(error) = done {
            error!(%error, "closing the store");
        }
    }
}
