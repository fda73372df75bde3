//! Measures the CPU time of a guest, and pauses it when it has had its share.

use crate::limits::Account;
use crate::ticker::Ticker;
use nix::time::{ClockId, clock_gettime};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use wasmtime::{Store, UpdateDeadline};

/// The slice of CPU time that a store is using at this moment. One thread at a
/// time touches it: the one that polls the guest.
#[derive(Clone)]
pub(crate) struct Meter {
    account: Arc<Account>,
    slice_start_ns: Arc<AtomicU64>,
}

impl Meter {
    pub(crate) fn new(account: Arc<Account>) -> Meter {
        Meter {
            account,
            slice_start_ns: Arc::default(),
        }
    }

    /// Makes the store stop for breath at every tick of the epoch: books what
    /// it has used, lets others run, sleeps while it is over its quota.
    pub(crate) fn attach<T>(&self, store: &mut Store<T>) {
        let meter = self.clone();
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            meter.lap();
            // tokio's own yield lets the worker look after sockets and timers
            // first; waking at once would starve them.
            Ok(match meter.account.pause() {
                Some(pause) => UpdateDeadline::YieldCustom(1, Box::pin(tokio::time::sleep(pause))),
                None => UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())),
            })
        });
    }

    /// Runs a guest, booking the CPU time of each poll.
    pub(crate) async fn run<F: Future>(&self, ticker: &Ticker, guest: F) -> F::Output {
        // Guests that compute briefly and often never meet a tick.
        if let Some(pause) = self.account.pause() {
            tokio::time::sleep(pause).await;
        }
        let mut guest = pin!(guest);
        std::future::poll_fn(|cx| {
            let _running = ticker.enter();
            self.slice_start_ns.store(thread_cpu_ns(), Relaxed);
            let poll = guest.as_mut().poll(cx);
            self.lap();
            poll
        })
        .await
    }

    fn lap(&self) {
        let now = thread_cpu_ns();
        let start = self.slice_start_ns.swap(now, Relaxed);
        self.account
            .charge(Duration::from_nanos(now.saturating_sub(start)));
    }
}

/// CPU time of the calling thread up to this moment, in nanoseconds. `getrusage`
/// will not do: it tells what was booked at the kernel's last tick, and a slice
/// is but a few of those long, so guests got a quarter more than their limit.
fn thread_cpu_ns() -> u64 {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)
        .ok()
        .and_then(|used| u64::try_from(Duration::from(used).as_nanos()).ok())
        .unwrap_or(0)
}
