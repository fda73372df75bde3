//! The thread that persists while the driver does something else, and that
//! goes on trying while the disk takes nothing.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::inbox::{INPUTS_MAX, Input, Slot, Written};
use crate::error::StoreError;
use crate::log::Log;
use crate::raft::Job;

/// Pause between two attempts while the disk takes nothing.
const RETRY: Duration = Duration::from_secs(1);

/// See the module. Dropping it ends the thread.
pub struct Writer {
    jobs: Option<Sender<Job>>,
    /// Jobs sent of which nothing has been heard yet.
    pub outstanding: usize,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    /// Starts the thread, which begins with `at_work`; it reports by [`Input::Persisted`] and [`Input::Ailing`].
    pub fn start(log: Arc<Mutex<Log>>, notices: Slot, at_work: fn()) -> Result<Writer, StoreError> {
        let (jobs, todo) = channel::<Job>();
        let work = move || {
            at_work();
            while let Ok(job) = todo.recv() {
                let mut jobs = vec![job];
                jobs.extend(todo.try_iter().take(INPUTS_MAX));
                let began = Instant::now();
                if !persist(&log, &mut jobs, &todo, &notices) {
                    return;
                }
                let took = began.elapsed();
                if notices.send(Input::Persisted(Written { jobs, took })).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("store-log".into())
            .spawn(work)
            .map_err(|source| StoreError::Io {
                what: "starting a thread".into(),
                source,
            })?;
        Ok(Writer {
            jobs: Some(jobs),
            outstanding: 0,
            thread: Some(thread),
        })
    }

    /// Sends a job after those sent before.
    pub fn send(&mut self, job: Job) -> Result<(), StoreError> {
        self.outstanding += 1;
        let sent = self.jobs.as_ref().map(|jobs| jobs.send(job));
        match sent {
            Some(Ok(())) => Ok(()),
            _ => Err(StoreError::Stopped("the log's thread has ended".into())),
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.jobs.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Tries until all is written, what comes meanwhile included; false if nobody wants it any more.
fn persist(log: &Mutex<Log>, jobs: &mut Vec<Job>, todo: &Receiver<Job>, notices: &Slot) -> bool {
    while let Err(error) = write(log, jobs) {
        if notices.send(Input::Ailing(error.to_string())).is_err() {
            return false;
        }
        let until = Instant::now() + RETRY;
        loop {
            match todo.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(job) => jobs.push(job),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }
    true
}

/// Persists jobs, as many in one batch as can be. Returns at once if none of them needs a sync.
/// After an error the same jobs, and perhaps more behind them, are to be handed in again.
pub fn write(log: &Mutex<Log>, jobs: &[Job]) -> Result<(), StoreError> {
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    // What begins the log anew comes first in its batch.
    for jobs in jobs.chunk_by(|_, next| next.base.is_none()) {
        let base = jobs.first().and_then(|job| job.base);
        let hard = jobs.iter().rev().find_map(|job| job.hard.clone());
        if jobs.iter().any(|job| job.must_sync) {
            log.append_from(base, jobs.iter().flat_map(|job| &job.entries), hard)?;
        } else if let Some(hard) = hard {
            log.defer(hard);
        }
    }
    Ok(())
}
