//! Watches: each pulls events from the window at its own pace. A watch that
//! fell behind the window reads from the state until it has caught up, so a
//! slow reader costs no memory and misses nothing until compaction overtakes it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::cache::{Cache, More};
use crate::error::StoreError;
use crate::history::History;
use crate::types::Event;
use crate::window::Watcher;

/// How many events are taken at once.
const EVENTS_MAX: usize = 128;
/// How many are read from the state at once, where each takes a tenth of a millisecond, and others wait meanwhile.
const OLDER_MAX: usize = 8;
/// Through how many revisions it is looked for these.
const REVISIONS_MAX: u64 = 256;

/// A stream of all events under a prefix, in revision order, each exactly once.
pub struct Watch {
    cache: Arc<Cache>,
    history: History,
    watcher: Arc<Watcher>,
    /// Taken but not yet handed out.
    ready: VecDeque<Arc<Event>>,
    /// Every event up to this revision has been taken or does not exist.
    taken: u64,
    ended: bool,
}

impl Watch {
    pub(crate) fn new(
        cache: Arc<Cache>,
        history: History,
        prefix: &str,
        from: u64,
    ) -> Result<Watch, StoreError> {
        let oldest = cache.position().compacted;
        if from < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        let watcher = cache.watcher(prefix, from);
        Ok(Watch {
            cache,
            history,
            watcher,
            ready: VecDeque::new(),
            taken: from,
            ended: false,
        })
    }

    /// The next event; waits for it. `None` when the store is closed or an
    /// error was returned before. [`StoreError::Compacted`] when history that
    /// was not yet handed out is gone. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        while !self.ended {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match self.take() {
                Ok(Taken::New) => {}
                Ok(Taken::Older) => tokio::task::yield_now().await,
                Ok(Taken::Nothing) if self.ended => {}
                Ok(Taken::Nothing) => self.watcher.news.notified().await,
                Err(error) => return self.fail(error),
            }
        }
        None
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Result<Arc<Event>, StoreError>> {
        while !self.ended {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            match self.take() {
                Ok(Taken::Nothing) => return None,
                Ok(_) => {}
                Err(error) => return self.fail(error),
            }
        }
        None
    }

    fn fail<T>(&mut self, error: StoreError) -> Option<Result<T, StoreError>> {
        self.ended = true;
        Some(Err(error))
    }

    /// Every event up to this revision has been handed out or does not exist.
    pub fn progress(&self) -> u64 {
        match self.ready.front() {
            Some(event) => event.revision - 1,
            None => self.cache.quiet_until(&self.watcher, self.taken),
        }
    }

    /// Takes more events.
    fn take(&mut self) -> Result<Taken, StoreError> {
        match self.cache.more(&self.watcher, self.taken, EVENTS_MAX) {
            More::Events(events, until) => {
                self.taken = until;
                self.ready.extend(events);
                Ok(match self.ready.is_empty() {
                    true => Taken::Nothing,
                    false => Taken::New,
                })
            }
            More::Older { after, until } => {
                self.take_older(after, until)?;
                Ok(Taken::Older)
            }
            More::Compacted(oldest) => Err(StoreError::Compacted { oldest }),
            More::Closed => {
                self.ended = true;
                Ok(Taken::Nothing)
            }
        }
    }

    fn take_older(&mut self, after: u64, until: u64) -> Result<(), StoreError> {
        let until = until.min(after.saturating_add(REVISIONS_MAX));
        let events = self
            .history
            .events(self.watcher.prefix(), after, until, OLDER_MAX)?;
        self.taken = match events.last() {
            Some(event) if events.len() == OLDER_MAX => event.revision,
            _ => until,
        };
        self.ready.extend(events);
        Ok(())
    }
}

/// Where events were taken from.
enum Taken {
    /// There are none now, or there will be none any more.
    Nothing,
    /// The window.
    New,
    /// The state. It may have had none of these revisions, and others may follow.
    Older,
}
