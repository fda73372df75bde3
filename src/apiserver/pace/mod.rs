//! A fair share of the processor for every client, below what flow control sees: handshakes, decryption, heads,
//! waiting in queues and sending take time before, beside and after a request's turn there.
//!
//! ```text
//! connection's task, requests' tasks ─ Paced ─▶ modest so far, or few and brief? go
//!                                          └──▶ else wait for one of a few turns (ledger.rs)
//! ```
//!
//! The runtime serves its tasks in the order in which they were woken. A client of three hundred busy connections would
//! have three hundred tasks in front of everybody else's; so no more of its tasks are woken at once than there are
//! processors, and one less as long as others ask little now and then: these go at once, and find a thread that is not
//! in the midst of something long. Those who ask much share what is left evenly.

mod ledger;

use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base::telemetry::Metrics;
use futures_util::task::AtomicWaker;
use prometheus_client::metrics::counter::Counter;

use ledger::{Ledger, Place, Who};

/// Turns at the processor.
pub struct Pace {
    began: Instant,
    names: RandomState,
    held_back: Counter,
    // A std lock: nothing awaits while it is held.
    ledger: Mutex<Ledger<Arc<Ticket>>>,
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

/// One who waits for a turn.
#[derive(Default)]
struct Ticket {
    granted: AtomicBool,
    waker: AtomicWaker,
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

    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Ticket>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes those whose turn it is now.
    fn hand_on(mut ledger: MutexGuard<'_, Ledger<Arc<Ticket>>>, now: Duration) {
        while let Some(ticket) = ledger.next(now) {
            ticket.granted.store(true, Ordering::Release);
            ticket.waker.wake();
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

    /// A connection of this client, at its pace.
    pub fn paced<F: Future>(self: Arc<Self>, work: F) -> Paced<F> {
        self.at_its_pace(work, None)
    }

    /// A request of this client, at its pace: it goes before those that begin later. So does its connection, which
    /// has to send the answer.
    pub fn paced_request<F: Future>(self: Arc<Self>, work: F) -> Paced<F> {
        if self.requests.fetch_add(1, Ordering::Relaxed) == 0 {
            self.asks();
        }
        let now = self.pace.now();
        self.at_its_pace(work, Some(now))
    }

    /// Its connection is busy from now on: with a request that has no task of its own (HTTP/1), or the first of some.
    pub fn asks(&self) {
        let now = self.pace.now().as_nanos();
        self.asked
            .store(u64::try_from(now).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn at_its_pace<F: Future>(self: Arc<Self>, work: F, since: Option<Duration>) -> Paced<F> {
        {
            let (now, mut ledger) = (self.pace.now(), self.pace.ledger());
            self.tasks.fetch_add(1, Ordering::Relaxed);
            ledger.came(self.who(), now);
        }
        Paced {
            work: Box::pin(work),
            since,
            client: self,
            state: State::Idle,
        }
    }

    fn who(&self) -> Who {
        self.who.load(Ordering::Relaxed)
    }
}

/// Work that is polled when it is its client's turn.
pub struct Paced<F> {
    work: Pin<Box<F>>,
    /// When it began, if it is a request.
    since: Option<Duration>,
    client: Arc<Client>,
    state: State,
}

enum State {
    Idle,
    Waits(Arc<Ticket>, Place),
}

/// A step that may be taken now.
struct Step {
    /// Whether it is a turn, which is to be given back.
    turn: bool,
    began: Duration,
}

impl<F> Paced<F> {
    /// Since when what it does next counts.
    fn since(&self) -> Duration {
        self.since
            .unwrap_or_else(|| Duration::from_nanos(self.client.asked.load(Ordering::Relaxed)))
    }

    /// The next step; when it has to wait for a turn, it is woken with one.
    fn step(&mut self, context: &Context<'_>) -> Option<Step> {
        let (pace, who) = (&self.client.pace, self.client.who());
        if let State::Waits(ticket, _) = &self.state {
            // Registered first: a turn that comes in between must not go unnoticed.
            ticket.waker.register(context.waker());
            if !ticket.granted.load(Ordering::Acquire) {
                return None;
            }
            self.state = State::Idle;
            let began = pace.now();
            return Some(Step { turn: true, began });
        }
        let now = pace.now();
        let mut ledger = pace.ledger();
        if ledger.goes_freely(who, now) {
            return Some(Step {
                turn: false,
                began: now,
            });
        }
        // Even a turn that is there at once comes by being woken: others are in the runtime's queue already.
        let ticket = Arc::<Ticket>::default();
        ticket.waker.register(context.waker());
        let place = ledger.wait(who, self.since(), ticket.clone(), now);
        Pace::hand_on(ledger, now);
        pace.held_back.inc();
        self.state = State::Waits(ticket, place);
        None
    }
}

/// A poll under way; its end is written down even if it panics.
struct Spending<'p> {
    pace: &'p Pace,
    who: Who,
    began: Duration,
    turn: bool,
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        let now = self.pace.now();
        let mut ledger = self.pace.ledger();
        ledger.charge(self.who, now.saturating_sub(self.began), now);
        if self.turn {
            ledger.end();
            Pace::hand_on(ledger, now);
        }
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Some(Step { turn, began }) = self.step(context) else {
            return Poll::Pending;
        };
        let client = self.client.clone();
        let _spending = Spending {
            pace: &client.pace,
            who: client.who(),
            began,
            turn,
        };
        self.work.as_mut().poll(context)
    }
}

impl<F> Drop for Paced<F> {
    fn drop(&mut self) {
        let pace = &self.client.pace;
        let (now, mut ledger) = (pace.now(), pace.ledger());
        self.client.tasks.fetch_sub(1, Ordering::Relaxed);
        if self.since.is_some() {
            self.client.requests.fetch_sub(1, Ordering::Relaxed);
        }
        ledger.went(self.client.who(), now);
        let State::Waits(_, place) = std::mem::replace(&mut self.state, State::Idle) else {
            return;
        };
        // One that waits no longer has been given a turn, which others want.
        if !ledger.leave(place) {
            ledger.end();
            Pace::hand_on(ledger, now);
        }
    }
}

#[cfg(test)]
mod tests;
