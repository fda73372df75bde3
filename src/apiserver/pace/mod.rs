//! A fair share of the processor for every client, below what flow control sees: handshakes, decryption, heads,
//! waiting in queues and sending take time before, beside and after a request's turn there.
//!
//! ```text
//! what a connection's or a request's task waits for comes ─ Ticket ─▶ modest so far, or few and brief? the task is woken
//!                                                              └────▶ else with one of a few turns (ledger.rs)
//! ```
//!
//! The runtime serves its tasks in the order in which they were woken. A client of three hundred busy connections would
//! have three hundred tasks in front of everybody else's; so no more of its tasks are woken at once than there are
//! processors, and one less as long as others ask little now and then: these go at once, and find a thread that is not
//! in the midst of something long. Those who ask much share what is left evenly.
//!
//! It has to be the waking that waits, and not the work. One event wakes five hundred watches; were they woken as tasks
//! and then told to wait, each step of somebody else would have five hundred such answers before it.

mod ledger;
mod paced;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base::telemetry::Metrics;
use prometheus_client::metrics::counter::Counter;

use ledger::{Ledger, Who};

/// What waits for a turn.
trait Waiting: Send + Sync {
    /// It is its turn now. The ledger is held.
    fn has_a_turn(&self);
}

type Turns = Ledger<Arc<dyn Waiting>>;

/// Turns at the processor.
pub struct Pace {
    began: Instant,
    names: RandomState,
    held_back: Counter,
    // A std lock: nothing awaits while it is held.
    ledger: Mutex<Turns>,
}

/// Whose time a connection spends. It changes when it turns out who asks.
pub struct Client {
    pace: Arc<Pace>,
    // Both change while the ledger is held, so that a task is always counted where it is.
    who: AtomicU64,
    tasks: AtomicUsize,
    /// Requests of its connection that have tasks of their own.
    requests: AtomicUsize,
    /// When its connection began to be busy with requests, in nanoseconds as the pace counts time.
    asked: AtomicU64,
}

impl Pace {
    /// As many turns at once as there are processors.
    pub fn new(metrics: &Metrics) -> Arc<Self> {
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get());
        Arc::new(Self {
            began: Instant::now(),
            names: RandomState::new(),
            held_back: metrics.add(
                "coracle_client_work_held_back",
                "How often work for a greedy client waited so that others had their share of the processor",
                Counter::default(),
            ),
            ledger: Mutex::new(Ledger::new(processors)),
        })
    }

    /// Somebody at that address of whom nothing else is known yet.
    pub fn stranger(self: &Arc<Self>, at: IpAddr) -> Arc<Client> {
        let who = AtomicU64::new(self.names.hash_one(at.to_canonical()));
        Arc::new(Client {
            pace: self.clone(),
            who,
            tasks: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            asked: AtomicU64::new(0),
        })
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    fn ledger(&self) -> MutexGuard<'_, Turns> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whose turn it is now.
    fn hand_on(mut ledger: MutexGuard<'_, Turns>, now: Duration) {
        while let Some(ticket) = ledger.next(now) {
            ticket.has_a_turn();
        }
    }
}

impl Client {
    /// From now on it is this user's time that is spent.
    pub fn is(&self, user: &str) {
        let user = self.pace.names.hash_one(user);
        if user == self.who() {
            return;
        }
        let (now, mut ledger) = (self.pace.now(), self.pace.ledger());
        let before = self.who.swap(user, Ordering::Relaxed);
        ledger.moved(self.tasks.load(Ordering::Relaxed), before, user, now);
    }

    /// Its connection is busy from now on: with a request that has no task of its own (HTTP/1), or the first of some.
    pub fn asks(&self) {
        let now = self.pace.now().as_nanos();
        self.asked
            .store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn who(&self) -> Who {
        self.who.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
