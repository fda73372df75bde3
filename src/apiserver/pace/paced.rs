//! Work at its client's pace: what wakes it, and what it costs.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;

use super::ledger::Place;
use super::{Client, Pace, Turns, Waiting};

/// Work that is polled when it is its client's turn.
pub struct Paced<F> {
    work: Pin<Box<F>>,
    ticket: Arc<Ticket>,
    /// The ticket as the work sees it. Always the same one, which many a thing that wakes compares.
    waker: Waker,
}

/// What wakes a piece of work: not its task at once, but through the ledger.
struct Ticket {
    client: Arc<Client>,
    /// When it began, if it is a request.
    since: Option<Duration>,
    task: AtomicWaker,
    // Changes from asleep, and back to it, while the ledger is held, which is locked first.
    state: Mutex<State>,
}

enum State {
    /// Nothing to do.
    Asleep,
    /// There is, when it is its turn.
    Waits(Place),
    /// There is, and its task has been woken.
    Goes { turn: bool },
    /// Its task is at it; whether more came meanwhile.
    AtWork { turn: bool, more: bool },
    /// It is over.
    Over,
}

impl Client {
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

    fn at_its_pace<F: Future>(self: Arc<Self>, work: F, since: Option<Duration>) -> Paced<F> {
        {
            let (now, mut ledger) = (self.pace.now(), self.pace.ledger());
            self.tasks.fetch_add(1, Ordering::Relaxed);
            ledger.came(self.who(), now);
        }
        Paced::new(self, work, since)
    }
}

impl<F: Future> Paced<F> {
    fn new(client: Arc<Client>, work: F, since: Option<Duration>) -> Self {
        let ticket = Arc::new(Ticket {
            client,
            since,
            task: AtomicWaker::new(),
            state: Mutex::new(State::Asleep),
        });
        Self {
            work: Box::pin(work),
            waker: ticket.clone().into(),
            ticket,
        }
    }
}

impl Waiting for Ticket {
    fn has_a_turn(&self) {
        *self.state() = State::Goes { turn: true };
        if let Some(task) = self.task.take() {
            wake_last(&task);
        }
    }
}

impl Ticket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since when what it does next counts.
    fn since(&self) -> Duration {
        self.since
            .unwrap_or_else(|| Duration::from_nanos(self.client.asked.load(Ordering::Relaxed)))
    }

    /// There is something to do.
    fn rouse(self: &Arc<Self>) {
        match &mut *self.state() {
            State::Asleep => {}
            State::AtWork { more, .. } => return *more = true,
            State::Waits(_) | State::Goes { .. } | State::Over => return,
        }
        let (pace, now) = (&self.client.pace, self.client.pace.now());
        let mut ledger = pace.ledger();
        // Somebody else may have roused it in between.
        if self.is_asleep() && self.enter(&mut ledger, now) {
            self.task.wake();
        }
        Pace::hand_on(ledger, now);
    }

    /// Lets it go at once, which is answered, or wait for its turn, which may be there at once: call
    /// [`Pace::hand_on`] after it.
    fn enter(self: &Arc<Self>, ledger: &mut Turns, now: Duration) -> bool {
        let who = self.client.who();
        let free = ledger.goes_freely(who, now);
        *self.state() = match free {
            true => State::Goes { turn: false },
            false => State::Waits(ledger.wait(who, self.since(), Arc::<Self>::clone(self), now)),
        };
        if !free {
            self.client.pace.held_back.inc();
        }
        free
    }

    /// Begins with it, if it may go.
    fn begin(self: &Arc<Self>) -> bool {
        // Its task was woken, but not by its ticket: it is the first time, or what is around it did.
        if self.is_asleep() {
            let now = self.client.pace.now();
            let mut ledger = self.client.pace.ledger();
            if self.is_asleep() {
                self.enter(&mut ledger, now);
            }
            // A turn that is there at once comes by being woken, too: others are in the runtime's queue already.
            let goes = self.goes();
            Pace::hand_on(ledger, now);
            return goes;
        }
        self.goes()
    }

    fn goes(&self) -> bool {
        let mut state = self.state();
        let State::Goes { turn } = *state else {
            return false;
        };
        *state = State::AtWork { turn, more: false };
        true
    }

    fn is_asleep(&self) -> bool {
        matches!(*self.state(), State::Asleep)
    }
}

impl Wake for Ticket {
    fn wake(self: Arc<Self>) {
        self.rouse();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rouse();
    }
}

/// Wakes a task after all that is ready, and after what has just come from the network: a turn begins with a look at
/// who else wants something. That is what yielding means to the runtime; outside of it, this is an ordinary waking.
fn wake_last(task: &Waker) {
    let mut yielding = pin!(tokio::task::yield_now());
    let _ = yielding.as_mut().poll(&mut Context::from_waker(task));
}

/// A poll under way; its end is written down even if it panics.
struct Spending<'t> {
    ticket: &'t Arc<Ticket>,
    began: Duration,
}

impl Drop for Spending<'_> {
    fn drop(&mut self) {
        let client = &self.ticket.client;
        let now = client.pace.now();
        let mut ledger = client.pace.ledger();
        ledger.charge(client.who(), now.saturating_sub(self.began), now);
        let was = std::mem::replace(&mut *self.ticket.state(), State::Asleep);
        if matches!(was, State::AtWork { turn: true, .. }) {
            ledger.end();
        }
        if matches!(was, State::AtWork { more: true, .. }) && self.ticket.enter(&mut ledger, now) {
            self.ticket.task.wake();
        }
        Pace::hand_on(ledger, now);
    }
}

impl<F: Future> Future for Paced<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let Self { work, ticket, waker } = &mut *self;
        // Registered first: a turn that comes in between must not go unnoticed.
        ticket.task.register(context.waker());
        if !ticket.begin() {
            return Poll::Pending;
        }
        let began = ticket.client.pace.now();
        let _spending = Spending { ticket, began };
        work.as_mut().poll(&mut Context::from_waker(waker))
    }
}

impl<F> Drop for Paced<F> {
    fn drop(&mut self) {
        let client = &self.ticket.client;
        let now = client.pace.now();
        let mut ledger = client.pace.ledger();
        client.tasks.fetch_sub(1, Ordering::Relaxed);
        if self.ticket.since.is_some() {
            client.requests.fetch_sub(1, Ordering::Relaxed);
        }
        ledger.went(client.who(), now);
        let was = std::mem::replace(&mut *self.ticket.state(), State::Over);
        match was {
            State::Waits(place) => {
                ledger.leave(place);
            }
            // It has been given a turn, which others want.
            State::Goes { turn: true } => ledger.end(),
            _ => {}
        }
        Pace::hand_on(ledger, now);
    }
}
