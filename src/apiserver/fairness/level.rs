//! A priority level while it works: its queues behind a lock, and those who wait for their turn.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base::Clock;
use tokio::sync::oneshot;

use super::demand::{self, Measured, Meter};
use super::limits::{Nominal, Wish};
use super::metrics::{Busy, Counts, LevelGauges};
use super::queues::{Arrival, Place, Queues, Refusal, Seats, Shape, Shown};
use super::width::Work;

/// Seats of a level that has as many as anybody wants.
const UNLIMITED: u64 = u64::MAX;

/// A priority level.
pub struct Level {
    /// Its name.
    pub name: String,
    clock: Arc<dyn Clock>,
    gauges: LevelGauges,
    // A std lock: nothing awaits while it is held.
    state: Mutex<State>,
}

struct State {
    queues: Queues<Waiter>,
    meter: Meter,
    nominal: Nominal,
    smoothed: f64,
}

/// One who waits.
struct Waiter {
    counts: Arc<Counts>,
    work: Work,
    came: Duration,
    to: oneshot::Sender<Seat>,
}

/// What a level is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its queues.
    pub shape: Shape,
    /// Its seats; as many as anybody wants when there are none.
    pub nominal: Option<Nominal>,
}

impl Settings {
    fn limit(self) -> u64 {
        self.nominal.map_or(UNLIMITED, |nominal| nominal.own)
    }
}

impl Level {
    /// A level in which nobody is yet.
    pub fn new(name: &str, settings: Settings, gauges: LevelGauges, clock: Arc<dyn Clock>) -> Self {
        let nominal = settings.nominal.unwrap_or_default();
        let now = clock.monotonic();
        gauges.configured(nominal, settings.shape, now);
        gauges.limit(nominal.own, now);
        let state = State {
            queues: Queues::new(settings.shape, settings.limit()),
            meter: Meter::default(),
            nominal,
            smoothed: 0.0,
        };
        Self {
            name: name.to_owned(),
            clock,
            gauges,
            state: Mutex::new(state),
        }
    }

    /// Works by other settings from now on. A level whose share is another one begins with what it says.
    pub fn configure(self: &Arc<Self>, settings: Settings) {
        let nominal = settings.nominal.unwrap_or_default();
        let now = self.clock.monotonic();
        self.gauges.configured(nominal, settings.shape, now);
        let limit = self.run(|state| {
            if state.nominal != nominal || settings.nominal.is_none() {
                state.queues.give(settings.limit());
            }
            state.nominal = nominal;
            state.queues.reshape(settings.shape);
            state.queues.limit()
        });
        let limit = if settings.nominal.is_some() { limit } else { 0 };
        self.gauges.limit(limit, now);
    }

    /// Waits for seats, at most for `patience`.
    ///
    /// # Errors
    /// When there are none, and none to wait for.
    pub async fn enter(
        self: &Arc<Self>,
        counts: &Arc<Counts>,
        flow: u64,
        work: Work,
        patience: Duration,
    ) -> Result<Seat, Refusal> {
        let came = self.clock.monotonic();
        counts.came(work);
        let (place, length, from) = match self.run(|state| state.arrive(flow, work, counts, came)) {
            Entry::Seated(seats) => return Ok(self.seated(counts.clone(), seats, work, came)),
            Entry::Refused(why) => {
                counts.refused(why, Duration::ZERO);
                return Err(why);
            }
            Entry::Waits(place, length, from) => (place, length, from),
        };
        counts.waits(work, length, came);
        let mut waiting = Waiting {
            level: self,
            counts,
            work,
            place,
            from,
        };
        match tokio::time::timeout(patience, &mut waiting.from).await {
            Ok(Ok(seat)) => Ok(seat),
            _ => waiting.too_late(came),
        }
    }

    /// Sums up what the level wanted since this was asked last, as a wish for the time that comes.
    pub fn wish(&self) -> Wish {
        let now = self.clock.monotonic();
        let mut state = self.state();
        let measured: Measured = state.meter.take(now);
        state.smoothed = demand::smoothed(state.smoothed, measured);
        let Nominal { own, least, most } = state.nominal;
        let least = (least as f64).max(measured.highest.min(own as f64));
        let target = state.smoothed.max(least);
        self.gauges.wanted(measured, state.smoothed, target);
        Wish {
            least,
            most: most as f64,
            target,
        }
    }

    /// Gives the level so many seats; one without a limit keeps as many as anybody wants.
    pub fn give(self: &Arc<Self>, seats: u64) {
        self.run(|state| {
            if state.queues.limit() != UNLIMITED {
                state.queues.give(seats);
            }
        });
        self.gauges.limit(seats, self.clock.monotonic());
    }

    /// Requests that have seats and that wait, and the queues they are in.
    pub fn shown(&self) -> ((usize, usize), Vec<Shown>) {
        let state = self.state();
        (state.queues.requests(), state.queues.shown().collect())
    }

    /// Changes the queues, then seats those whose turn it is.
    fn run<T>(self: &Arc<Self>, change: impl FnOnce(&mut State) -> T) -> T {
        let now = self.clock.monotonic();
        let (result, seated) = {
            let mut state = self.state();
            let result = change(&mut state);
            let seated: Vec<_> = std::iter::from_fn(|| state.queues.next(now)).collect();
            self.measure(&mut state, now);
            (result, seated)
        };
        for (waiter, seats) in seated {
            let seat = self.seated(waiter.counts, seats, waiter.work, waiter.came);
            // One who has gone in the meantime: their seats come back at once.
            drop(waiter.to.send(seat));
        }
        result
    }

    /// Counts what goes on from now on. Under the lock, so that what came later is counted later.
    fn measure(&self, state: &mut State, now: Duration) {
        if let Some(waiter) = state.queues.held_up() {
            waiter.counts.held_up();
        }
        let (requests, seats) = (state.queues.requests(), state.queues.seats());
        state.meter.set(seats.0 + seats.1, now);
        self.gauges.busy(Busy { requests, seats }, now);
        self.gauges.progress(state.queues.progress());
    }

    fn seated(self: &Arc<Self>, counts: Arc<Counts>, seats: Seats, work: Work, came: Duration) -> Seat {
        let began = self.clock.monotonic();
        counts.seated(work, began.saturating_sub(came), began);
        Seat {
            taken: Some(Taken {
                level: self.clone(),
                counts,
                seats,
            }),
            work,
            began,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of one who comes.
enum Entry {
    Seated(Seats),
    Refused(Refusal),
    Waits(Place, usize, oneshot::Receiver<Seat>),
}

impl State {
    fn arrive(&mut self, flow: u64, work: Work, counts: &Arc<Counts>, came: Duration) -> Entry {
        match self.queues.arrive(flow, work.width, came) {
            Arrival::Seated(seats) => Entry::Seated(seats),
            Arrival::Refused(why) => Entry::Refused(why),
            Arrival::Waits(queue) => {
                let (to, from) = oneshot::channel();
                let waiter = Waiter {
                    counts: counts.clone(),
                    work,
                    came,
                    to,
                };
                let place = self.queues.wait(queue, work.width, waiter);
                Entry::Waits(place, self.queues.length(place), from)
            }
        }
    }
}

/// A request in a queue, which it leaves when this is dropped.
struct Waiting<'l> {
    level: &'l Arc<Level>,
    counts: &'l Arc<Counts>,
    work: Work,
    place: Place,
    from: oneshot::Receiver<Seat>,
}

impl Waiting<'_> {
    /// It has waited too long, unless its turn came at this very moment.
    fn too_late(&mut self, came: Duration) -> Result<Seat, Refusal> {
        self.leave();
        if let Ok(seat) = self.from.try_recv() {
            return Ok(seat);
        }
        let waited = self.level.clock.monotonic().saturating_sub(came);
        self.counts.refused(Refusal::TimeOut, waited);
        Err(Refusal::TimeOut)
    }

    fn leave(&self) {
        let now = self.level.clock.monotonic();
        drop(self.level.run(|state| state.queues.give_up(self.place, now)));
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.counts.waited(self.work, self.level.clock.monotonic());
        // What was seated is out of its queue already.
        self.leave();
    }
}

/// Seats that a request has, until this is dropped, and as long after as its work lingers.
pub struct Seat {
    taken: Option<Taken>,
    work: Work,
    began: Duration,
}

struct Taken {
    level: Arc<Level>,
    counts: Arc<Counts>,
    seats: Seats,
}

impl Taken {
    fn give_back(self) {
        self.counts.left(self.seats.width);
        let now = self.level.clock.monotonic();
        self.level.run(|state| state.queues.leave(self.seats, now));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(taken) = self.taken.take() else {
            return;
        };
        let now = taken.level.clock.monotonic();
        taken
            .counts
            .answered(self.work, now.saturating_sub(self.began), now);
        let lingers = self.work.lingers;
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if !lingers.is_zero() => {
                runtime.spawn(async move {
                    tokio::time::sleep(lingers).await;
                    taken.give_back();
                });
            }
            // Without a runtime the server is ending: nobody waits for what lingers.
            _ => taken.give_back(),
        }
    }
}

#[cfg(test)]
mod tests;
