//! What the driver looks after between entries: whether the disk takes writes, how much room the state takes, and how
//! long the log has grown.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use super::Driver;
use crate::quota;
use crate::upkeep::Chore;

/// Files smaller than this are not worth the trouble of making them smaller.
const WASTE_BYTES: u64 = 64 << 20;
/// Pause between two times of making the state smaller.
const TIDYING: Duration = Duration::from_secs(60);

impl Driver {
    /// Suspends the core while log or state take nothing, and says so.
    pub(super) fn raise_alarm(&mut self) {
        match &self.ailing {
            Some(reason) if self.core.suspended() != Some(reason) => self.core.suspend(reason),
            None if !self.core.stuck() && self.core.suspended().is_some() => self.core.resume(),
            _ => {}
        }
        let now = self.core.suspended();
        if self.alarm.borrow().as_deref() == now {
            return;
        }
        match now {
            Some(reason) => warn!(reason, "the store cannot write; reads go on"),
            None => info!("the store takes writes again"),
        }
        self.counters.suspended.set(i64::from(now.is_some()));
        self.alarm.send_replace(now.map(str::to_owned));
    }

    /// Looks how much room the state takes, and has it made smaller where that helps.
    pub(super) fn measure(&mut self, now: Instant) {
        let usage = self.core.usage();
        let was = self.full.load(Ordering::Relaxed) > 0;
        let full = quota::is_full(usage.bytes, self.quota, was);
        if full != was {
            warn!(bytes = usage.bytes, quota = self.quota, full, "the store's quota");
        }
        self.full
            .store(if full { usage.bytes } else { 0 }, Ordering::Relaxed);
        self.counters.measured(usage, self.quota, full);
        let wasteful = usage.file_bytes > WASTE_BYTES && usage.file_bytes / 2 > usage.bytes;
        if (full || wasteful) && now >= self.next_tidying {
            self.next_tidying = now + TIDYING;
            self.upkeep.ask(Chore::Defragment);
        }
    }

    pub(super) fn look_after_log(&mut self) {
        let (appended, wants_spare) = {
            let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            (log.appended(), log.wants_spare())
        };
        if wants_spare {
            self.upkeep.ask(Chore::Spare);
        }
        if appended - self.flushed_at >= self.flush_log_bytes {
            self.flushed_at = appended;
            self.upkeep.ask(Chore::Flush);
        }
    }
}
