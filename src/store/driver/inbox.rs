//! What can happen to the driver, and where that waits until it is taken in.
//!
//! A lock and a queue, and not a channel without locks. In such a channel a receiver that comes between the two steps of
//! a sender turns in circles until the second one is done; the driver goes before all other threads (`SCHED_RR`), and on
//! its processor the sender, put aside for it, would not come to do that: for as long as 0.95 s, when the kernel
//! intervenes. Who waits for a lock sleeps.
//!
//! All that waits is taken at once, and the driver is woken only for what it waits for.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::call::Call;
use crate::error::StoreError;
use crate::membership::Peer;
use crate::parcel::Parcel;
use crate::raft::Job;
use crate::reads::Clearance;
use crate::shipment::Arrival;
use crate::state::{Export, Meta};
use crate::status::Status;

/// Room for so many inputs is kept.
const KEPT: usize = 1024;

/// Inputs taken in one go.
pub(super) const INPUTS_MAX: usize = 1024;

/// Jobs that are durable now.
pub struct Written {
    /// In the order in which they were sent.
    pub jobs: Vec<Job>,
    /// How long that took.
    pub took: Duration,
}

/// What can happen to the driver.
pub enum Input {
    /// Somebody wants something written, since then.
    Call(Instant, Call),
    /// Somebody wants to read linearizably.
    Read(Clearance),
    /// A peer, whose identity is certain, sent something.
    Parcel(u64, Parcel),
    /// A peer has called, and says where it is.
    Met(Peer),
    /// A snapshot has come, complete.
    Arrival(Box<Arrival>),
    /// A shipment to a member has arrived there, or got lost.
    Shipped(u64, bool),
    /// Parcels to a member were lost.
    Unreachable(u64),
    /// The connection on which a member's parcels came has ended.
    HungUp(u64),
    /// Somebody wants to know how things are.
    Status(oneshot::Sender<Status>),
    /// Somebody wants a copy of everything, as it is now.
    Copy(oneshot::Sender<Result<Copied, StoreError>>),
    /// The writer finished jobs.
    Persisted(Written),
    /// The log takes nothing, for this reason; the writer goes on trying.
    Ailing(String),
    /// The store is to be closed.
    Stop,
}

/// A copy of the state, and what it knows beside its versions.
pub type Copied = (Meta, Box<dyn Export>);

/// Where inputs are put. All clones are the same.
#[derive(Clone)]
pub struct Slot(Arc<Shared>);

/// Where they are taken out. What is in it when it is dropped is dropped, too.
pub struct Inbox {
    shared: Arc<Shared>,
    /// Taken out of what is shared.
    taken: VecDeque<Input>,
}

/// Nobody takes inputs any more.
#[derive(Clone, Copy, Debug)]
pub struct Closed;

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    news: Condvar,
}

#[derive(Default)]
struct State {
    inputs: VecDeque<Input>,
    wakes: Wakes,
    closed: bool,
}

/// What wakes who takes inputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Wakes {
    /// Nothing: it is awake.
    #[default]
    Nothing,
    /// Any input.
    Anything,
    /// Any input but a call.
    NoCall,
}

/// An empty one.
pub fn inbox() -> (Slot, Inbox) {
    let shared = Arc::<Shared>::default();
    let inbox = Inbox {
        shared: shared.clone(),
        taken: VecDeque::new(),
    };
    (Slot(shared), inbox)
}

impl Slot {
    /// Puts an input behind the others.
    pub fn send(&self, input: Input) -> Result<(), Closed> {
        let mut state = self.0.lock();
        if state.closed {
            return Err(Closed);
        }
        let wakes = match state.wakes {
            Wakes::Nothing => false,
            Wakes::Anything => true,
            Wakes::NoCall => !input.is_call(),
        };
        state.inputs.push_back(input);
        if wakes {
            state.wakes = Wakes::Nothing;
            drop(state);
            self.0.news.notify_one();
        }
        Ok(())
    }
}

impl Inbox {
    /// The next input, if there is one.
    pub fn next(&mut self) -> Option<Input> {
        if self.taken.is_empty() {
            self.take(self.shared.clone().lock());
        }
        self.taken.pop_front()
    }

    /// The next input; waits for it, no longer than until then.
    pub fn wait(&mut self, until: Instant) -> Option<Input> {
        if self.taken.is_empty() {
            let shared = self.shared.clone();
            let mut state = shared.lock();
            if state.inputs.is_empty() {
                state = shared.sleep(state, Wakes::Anything, until);
            }
            self.take(state);
        }
        self.taken.pop_front()
    }

    /// Waits until then, or until there is anything but calls.
    pub fn rest(&self, until: Instant) {
        let state = self.shared.lock();
        if self.taken.iter().chain(&state.inputs).all(Input::is_call) {
            drop(self.shared.sleep(state, Wakes::NoCall, until));
        }
    }

    /// Whether there is no input.
    pub fn is_empty(&self) -> bool {
        self.taken.is_empty() && self.shared.lock().inputs.is_empty()
    }

    /// Takes all there is; what was taken before is used up.
    fn take(&mut self, mut state: MutexGuard<'_, State>) {
        self.taken.shrink_to(KEPT);
        std::mem::swap(&mut self.taken, &mut state.inputs);
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closed = true;
        let left = std::mem::take(&mut state.inputs);
        drop(state);
        drop(left);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sleep<'a>(
        &self,
        mut state: MutexGuard<'a, State>,
        wakes: Wakes,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        state.wakes = wakes;
        while state.wakes != Wakes::Nothing {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = self.news.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wakes = Wakes::Nothing;
        state
    }
}

impl Input {
    fn is_call(&self) -> bool {
        matches!(self, Input::Call(..))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);
    const SHORT: Duration = Duration::from_millis(20);

    fn call() -> Input {
        let call = Call {
            number: 1,
            membership: false,
            data: vec![],
            answer: oneshot::channel().0,
        };
        Input::Call(Instant::now(), call)
    }

    /// Sends in a while, from elsewhere.
    fn later(slot: &Slot, input: Input) -> std::thread::JoinHandle<()> {
        let slot = slot.clone();
        std::thread::spawn(move || {
            std::thread::sleep(SHORT);
            slot.send(input).expect("somebody who takes it");
        })
    }

    #[test]
    fn inputs_come_in_order_and_wake() {
        let (slot, mut inbox) = inbox();
        assert!(inbox.next().is_none() && inbox.is_empty());
        assert!(inbox.wait(Instant::now() + SHORT).is_none());
        let sent = later(&slot, Input::HungUp(0));
        assert!(matches!(
            inbox.wait(Instant::now() + LONG),
            Some(Input::HungUp(0))
        ));
        sent.join().expect("the sender");
        (1..=3).for_each(|id| slot.send(Input::HungUp(id)).expect("a place"));
        assert!(matches!(inbox.next(), Some(Input::HungUp(1))));
        slot.send(Input::HungUp(4)).expect("a place");
        for id in 2..=4 {
            assert!(!inbox.is_empty());
            assert!(matches!(inbox.next(), Some(Input::HungUp(other)) if other == id));
        }
        assert!(inbox.next().is_none());
    }

    #[test]
    fn calls_end_no_rest_and_the_others_do() {
        let (slot, mut inbox) = inbox();
        slot.send(call()).expect("a place");
        let (began, sent) = (Instant::now(), later(&slot, call()));
        inbox.rest(began + 4 * SHORT);
        assert!(began.elapsed() >= 4 * SHORT);
        sent.join().expect("the sender");
        let sent = later(&slot, Input::Stop);
        inbox.rest(Instant::now() + LONG);
        sent.join().expect("the sender");
        assert!(matches!(inbox.next(), Some(Input::Call(..))));
        // What was there before ends it as well, taken out or not.
        inbox.rest(Instant::now() + LONG);
    }

    #[test]
    fn nobody_waits_for_what_is_dropped() {
        let (slot, inbox) = inbox();
        let (asked, mut answer) = oneshot::channel();
        slot.send(Input::Status(asked)).expect("a place");
        drop(inbox);
        assert_eq!(
            answer.try_recv().err(),
            Some(oneshot::error::TryRecvError::Closed)
        );
        assert!(slot.send(Input::Stop).is_err());
    }
}
