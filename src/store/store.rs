//! The handle that everybody else uses.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use base::telemetry::Metrics;
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use crate::apply::View;
use crate::backup::{Backup, Files};
use crate::call::Call;
use crate::command::{Body, Command, Ticket};
use crate::config::StoreConfig;
use crate::driver::{Input, inbox};
use crate::error::StoreError;
use crate::quota;
use crate::state::Usage;
use crate::types::{Entry, ListQuery, Listing, Op, Outcome};
use crate::watch::Watch;
use inner::Inner;
use thread::Thread;

/// A handle on the store. Cheap to clone; all clones are the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

impl Store {
    /// Opens the store in `config.dir`, or makes one that is a group of its
    /// own. It is ready for everything when this returns. A folder can be open
    /// once at a time.
    pub async fn open(config: StoreConfig) -> Result<Store, StoreError> {
        let (inputs, received) = inbox();
        let (ready, opened) = oneshot::channel();
        let notices = inputs.clone();
        let runtime = Handle::current();
        let run = move || Thread::run(config, received, notices, inputs, ready, runtime);
        std::thread::Builder::new()
            .name("store".into())
            .spawn(run)
            .map_err(|source| StoreError::Io {
                what: "starting a thread".into(),
                source,
            })?;
        let inner = opened
            .await
            .map_err(|_| StoreError::Stopped("opening the store panicked".into()))??;
        Ok(Store {
            inner: Arc::new(inner),
        })
    }

    /// Does all operations, in order, each with a revision of its own; or, if
    /// any precondition fails, none of them ([`StoreError::Precondition`]).
    /// They are durable when this returns. If the future is dropped, they may
    /// or may not be done.
    pub async fn commit(&self, ops: Vec<Op>) -> Result<Vec<Outcome>, StoreError> {
        for (index, op) in ops.iter().enumerate() {
            check(op).map_err(|reason| StoreError::Invalid { index, reason })?;
        }
        let bytes = self.inner.full.load(Ordering::Relaxed);
        if bytes > 0 && quota::grow(&ops, &*self.inner.cache) {
            let quota = self.inner.quota;
            return Err(StoreError::Full { bytes, quota });
        }
        self.call(Body::Batch(ops)).await
    }

    /// The latest entry under a key, linearizable: it shows every write that
    /// was acknowledged before the call, by whichever member.
    pub async fn get(&self, key: &str) -> Result<Option<Arc<Entry>>, StoreError> {
        self.clearance().await?;
        Ok(self.inner.cache.entry(key))
    }

    /// Entries under a prefix: the latest (linearizable), or exactly those of
    /// an older revision that is not compacted yet.
    pub async fn list(&self, query: ListQuery) -> Result<Listing, StoreError> {
        self.clearance().await?;
        let cache = &self.inner.cache;
        let Some(revision) = query.revision else {
            return Ok(cache.list(&query));
        };
        if let Some(listing) = cache.list_unchanged(&query, revision) {
            return Ok(listing);
        }
        let history = self.inner.history.clone();
        let read = tokio::task::spawn_blocking(move || history.list_at(&query, revision));
        read.await
            .unwrap_or_else(|error| Err(StoreError::Stopped(error.to_string())))
    }

    /// The entry under a key in this member's memory; may lag behind the group.
    pub fn peek(&self, key: &str) -> Option<Arc<Entry>> {
        self.inner.cache.entry(key)
    }

    /// The entries under a prefix in this member's memory, and the revision at
    /// which they are exact; may lag behind the group.
    pub fn peek_prefix(&self, prefix: &str) -> (u64, Vec<Arc<Entry>>) {
        let listing = self.inner.cache.list(&ListQuery::prefix(prefix));
        (listing.revision, listing.entries)
    }

    /// How many entries this member's memory has under a prefix, and the bytes of their texts.
    pub fn count(&self, prefix: &str) -> (u64, u64) {
        self.inner.cache.count(prefix)
    }

    /// The bytes that the state takes on disk, history included, as measured last.
    pub fn size_bytes(&self) -> u64 {
        u64::try_from(self.inner.counters.state_bytes.get()).unwrap_or_default()
    }

    /// Events under a prefix with a revision greater than `from`: in order,
    /// none left out, none twice. `from` may lie in the future.
    pub fn watch(&self, prefix: &str, from: u64) -> Result<Watch, StoreError> {
        let (cache, history) = (self.inner.cache.clone(), self.inner.history.clone());
        Watch::new(cache, history, prefix, from)
    }

    /// The latest revision applied by this member.
    pub fn revision(&self) -> u64 {
        self.inner.cache.position().revision
    }

    /// History before this revision is gone; it can be listed and watched from.
    pub fn compacted(&self) -> u64 {
        self.inner.cache.position().compacted
    }

    /// Waits until this member has applied `revision`, which may never happen.
    pub async fn reached(&self, revision: u64) -> Result<(), StoreError> {
        let (mut revisions, mut ended) = (self.inner.cache.revisions(), self.inner.ended.clone());
        tokio::select! {
            _ = revisions.wait_for(|now| *now >= revision) => Ok(()),
            _ = ended.wait_for(|ended| *ended) => Err(self.inner.gone()),
        }
    }

    /// Forgets history before `revision`: it can be listed, older revisions cannot.
    pub async fn compact(&self, revision: u64) -> Result<(), StoreError> {
        self.call(Body::Compact(revision)).await.map(drop)
    }

    /// Gives the room back that deletions and compaction have left in this member's files, while reads and writes go
    /// on; how much it took before and takes now.
    pub async fn defragment(&self) -> Result<(Usage, Usage), StoreError> {
        let history = self.inner.history.clone();
        let done = tokio::task::spawn_blocking(move || history.defragment());
        done.await
            .unwrap_or_else(|error| Err(StoreError::Stopped(error.to_string())))
    }

    /// Begins a backup with everything that was acknowledged before the call, and
    /// with small files that belong to it. Writing goes on meanwhile.
    pub async fn backup(&self, files: &Files) -> Result<Backup, StoreError> {
        self.clearance().await?;
        let (asked, copied) = oneshot::channel();
        let _ = self.inner.inputs.send(Input::Copy(asked));
        let (meta, export) = copied.await.unwrap_or_else(|_| Err(self.inner.gone()))?;
        let made_ms = u64::try_from(self.inner.clock.now().as_millisecond()).unwrap_or(0);
        Ok(Backup::new(&meta, export, made_ms, files))
    }

    /// Why the store stopped by itself, if it did: writes are refused then,
    /// reads of what is in memory still work.
    pub fn failure(&self) -> Option<String> {
        self.inner.failure.get().cloned()
    }

    /// Why writes are refused now ([`StoreError::Unwritable`]), while they are:
    /// the disk takes none. Reads go on, and writes as soon as it does.
    pub fn suspended(&self) -> watch::Receiver<Option<String>> {
        self.inner.alarm.clone()
    }

    /// What needs somebody's attention, in words: it stopped, cannot write, is damaged, or full.
    pub fn alarms(&self) -> Vec<String> {
        let suspended = self.suspended().borrow().clone();
        let suspended = suspended.map(|reason| format!("cannot write: {reason}"));
        let bytes = self.inner.full.load(Ordering::Relaxed);
        let full = (bytes > 0).then(|| format!("store full: {bytes} of {} bytes", self.inner.quota));
        let damaged = self.inner.history.damage();
        let damaged = damaged.map(|reason| format!("state damaged: {reason}"));
        let alarms = self.failure().into_iter().chain(suspended);
        alarms.chain(damaged).chain(full).collect()
    }

    /// Lets a registry show what the store counts.
    pub fn register(&self, metrics: &Metrics) {
        self.inner.counters.register(metrics);
    }

    /// Waits until the store has ended, by [`close`](Self::close) or by
    /// itself; the text says why it stopped by itself.
    pub async fn ended(&self) -> Option<String> {
        let _ = self.inner.ended.clone().wait_for(|ended| *ended).await;
        self.failure()
    }

    /// Stops the store and waits until everything is on disk and closed. Later
    /// calls get [`StoreError::Closed`], watches end.
    pub async fn close(&self) {
        let _ = self.inner.inputs.send(Input::Stop);
        let _ = self.inner.ended.clone().wait_for(|ended| *ended).await;
    }

    async fn call(&self, body: Body) -> Result<Vec<Outcome>, StoreError> {
        let inner = &*self.inner;
        let number = inner.numbers.fetch_add(1, Ordering::Relaxed);
        let now_ms = u64::try_from(inner.clock.now().as_millisecond()).unwrap_or(0);
        let membership = matches!(body, Body::Member(_));
        // Encoded here, by the caller's thread, and not by the one that all share.
        let data = Command {
            ticket: Ticket {
                origin: inner.origin,
                number,
            },
            now_ms,
            body,
        }
        .encode();
        if data.len() > inner.request_bytes_max {
            return Err(StoreError::TooLarge {
                bytes: data.len(),
                bytes_max: inner.request_bytes_max,
            });
        }
        let (answer, outcome) = oneshot::channel();
        let began = Instant::now();
        let _ = inner.inputs.send(Input::Call(
            began,
            Call {
                number,
                membership,
                data,
                answer,
            },
        ));
        let outcome = outcome.await.unwrap_or_else(|_| Err(inner.gone()));
        if outcome.is_ok() && !membership {
            inner.counters.commits.observe(began.elapsed().as_secs_f64());
        }
        outcome
    }

    async fn clearance(&self) -> Result<(), StoreError> {
        if self.inner.local_reads.load(Ordering::Acquire) {
            return Ok(());
        }
        let (clearance, cleared) = oneshot::channel();
        let _ = self.inner.inputs.send(Input::Read(clearance));
        cleared.await.unwrap_or_else(|_| Err(self.inner.gone()))
    }
}

/// What one operation must satisfy before anybody looks at the state.
fn check(op: &Op) -> Result<(), &'static str> {
    let key = op.key();
    if key.is_empty() || key.contains('\0') {
        return Err("the key is empty or has a NUL in it");
    }
    let Op::Put { record, .. } = op else { return Ok(()) };
    let at = record.revision_at as usize;
    match at.checked_sub(1).and_then(|before| record.text.get(before..=at)) {
        Some(b"\"\"") => Ok(()),
        _ => Err("revision_at is not within an empty JSON string"),
    }
}

#[cfg(test)]
mod group_tests;
mod inner;
mod members;
#[cfg(test)]
mod tests;
mod thread;
