//! The seats of one priority level and the queues in front of them. Pure: time is a parameter, and what waits is the
//! caller's.
//!
//! ```text
//! flow ─ shuffle.rs ─▶ a hand of queues ─▶ the one with the least in it ─▶ waits ─▶ seats
//! ```
//!
//! Which queue goes next is fair queueing: each has a virtual time at which its next request would begin if all active
//! queues shared the seats evenly, and the one whose request would end first goes. A request counts with its width
//! (seats) times how long it takes, which is guessed when it begins and put right when it ends.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::shuffle;

mod progress;

/// How long a request is thought to take before it has ended, in seconds.
const GUESS_SECONDS: f64 = 0.003;

/// How requests that find no seat wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How many queues there are; none of them, and nobody waits.
    pub queues: usize,
    /// How many of them a flow may use.
    pub hand: usize,
    /// How many requests wait in one at most.
    pub length: usize,
}

impl Shape {
    /// How many requests may wait at once.
    pub fn room(self) -> usize {
        self.queues * self.length
    }
}

/// Why a request is turned away (the label `reason` of Kubernetes' metrics).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// All seats are taken, and the level has no queues.
    ConcurrencyLimit,
    /// Its queue is full.
    QueueFull,
    /// It has waited as long as one may.
    TimeOut,
}

impl Refusal {
    /// The metric's label.
    pub fn label(self) -> &'static str {
        match self {
            Refusal::ConcurrencyLimit => "concurrency-limit",
            Refusal::QueueFull => "queue-full",
            Refusal::TimeOut => "time-out",
        }
    }
}

/// What becomes of a request that comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// It has its seats.
    Seated(Seats),
    /// It has to wait, see [`Queues::wait`], in that queue.
    Waits(usize),
    /// It is turned away.
    Refused(Refusal),
}

/// Seats that a request has; they are given back by [`Queues::leave`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seats {
    /// How many.
    pub width: u64,
    /// The queue through which it came.
    queue: usize,
    /// Since when.
    since: Duration,
}

/// Where a request waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    queue: usize,
    number: u64,
}

/// A queue with its name, for those who look at it from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shown {
    /// Its number.
    pub index: usize,
    /// Requests that wait in it.
    pub waiting: usize,
    /// Requests of it that have seats.
    pub executing: usize,
    /// The seats these have.
    pub seats: u64,
    /// The virtual time at which its next request begins, in seconds.
    pub start: f64,
}

struct Waiting<W> {
    number: u64,
    width: u64,
    /// The virtual time at which it came.
    came: f64,
    who: W,
}

/// A queue of which something waits or is seated. The others are not kept: they begin anew.
struct Queue<W> {
    waiting: VecDeque<Waiting<W>>,
    waiting_seats: u64,
    executing: usize,
    seats: u64,
    /// The virtual time at which its next request begins.
    start: f64,
}

/// Where the queues stood when a request was given its seats last, in virtual seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Dispatch {
    /// The virtual time then.
    pub now: f64,
    /// When that request began.
    pub start: f64,
    /// The least and the greatest beginning of a request that was next in its queue.
    pub starts: (f64, f64),
    /// The same, less the work that is thought to be under way.
    pub discounted: (f64, f64),
}

/// Seats and queues of a level; `W` is whatever the caller finds a waiting request by.
pub struct Queues<W> {
    shape: Shape,
    limit: u64,
    active: BTreeMap<usize, Queue<W>>,
    /// The queue that went last: among equals, the next one after it goes.
    last: usize,
    executing: usize,
    seats: u64,
    waiting: usize,
    waiting_seats: u64,
    number: u64,
    virtual_now: f64,
    dispatch: Dispatch,
    now: Duration,
}

impl<W> Queues<W> {
    /// Empty queues before that many seats.
    pub fn new(shape: Shape, limit: u64) -> Self {
        Self {
            shape,
            limit,
            active: BTreeMap::new(),
            last: 0,
            executing: 0,
            seats: 0,
            waiting: 0,
            waiting_seats: 0,
            number: 0,
            virtual_now: 0.0,
            dispatch: Dispatch::default(),
            now: Duration::ZERO,
        }
    }

    /// Other queues for those who come. Who waits goes on waiting where they are.
    pub fn reshape(&mut self, shape: Shape) {
        self.shape = shape;
    }

    /// Other seats; call [`Queues::next`] after it.
    pub fn give(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Requests that have seats, and those that wait.
    pub fn requests(&self) -> (usize, usize) {
        (self.executing, self.waiting)
    }

    /// Seats that are taken, and those that are waited for.
    pub fn seats(&self) -> (u64, u64) {
        (self.seats, self.waiting_seats)
    }

    /// How many seats there are.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// The queues in which something is.
    pub fn shown(&self) -> impl Iterator<Item = Shown> + '_ {
        self.active.iter().map(|(index, queue)| Shown {
            index: *index,
            waiting: queue.waiting.len(),
            executing: queue.executing,
            seats: queue.seats,
            start: queue.start,
        })
    }

    /// A request of that flow comes.
    pub fn arrive(&mut self, flow: u64, width: u64, now: Duration) -> Arrival {
        self.advance(now);
        let queue = self.choose(flow);
        if self.waiting == 0 && self.fits(width) {
            self.queue(queue);
            self.note_dispatch(queue);
            return Arrival::Seated(self.seat(queue, width, now));
        }
        if self.shape.queues == 0 {
            return Arrival::Refused(Refusal::ConcurrencyLimit);
        }
        let waiting = self.active.get(&queue).map_or(0, |queue| queue.waiting.len());
        match waiting >= self.shape.length {
            true => Arrival::Refused(Refusal::QueueFull),
            false => Arrival::Waits(queue),
        }
    }

    /// Puts a request into the queue that [`Queues::arrive`] chose for it. It may be its turn at once: call
    /// [`Queues::next`] after it.
    pub fn wait(&mut self, queue: usize, width: u64, who: W) -> Place {
        self.number += 1;
        let (number, came) = (self.number, self.virtual_now);
        let one = Waiting {
            number,
            width,
            came,
            who,
        };
        let into = self.queue(queue);
        into.waiting.push_back(one);
        into.waiting_seats += width;
        self.waiting += 1;
        self.waiting_seats += width;
        Place { queue, number }
    }

    /// How many requests wait in the queue of that place.
    pub fn length(&self, place: Place) -> usize {
        let queue = self.active.get(&place.queue);
        queue.map_or(0, |queue| queue.waiting.len())
    }

    /// Takes a request out that waits no longer; `None` when it has its seats already. Call [`Queues::next`] after
    /// it: a narrower one may have waited behind it.
    pub fn give_up(&mut self, place: Place, now: Duration) -> Option<W> {
        self.advance(now);
        let queue = self.active.get_mut(&place.queue)?;
        let at = queue.waiting.iter().position(|one| one.number == place.number)?;
        let gone = queue.waiting.remove(at)?;
        queue.waiting_seats -= gone.width;
        self.waiting -= 1;
        self.waiting_seats -= gone.width;
        self.forget(place.queue);
        Some(gone.who)
    }

    /// A request gives its seats back. Call [`Queues::next`] after it.
    pub fn leave(&mut self, seats: Seats, now: Duration) {
        self.advance(now);
        self.executing = self.executing.saturating_sub(1);
        self.seats = self.seats.saturating_sub(seats.width);
        if let Some(queue) = self.active.get_mut(&seats.queue) {
            queue.executing = queue.executing.saturating_sub(1);
            queue.seats = queue.seats.saturating_sub(seats.width);
            let took = now.saturating_sub(seats.since).as_secs_f64();
            queue.start += (took - GUESS_SECONDS) * seats.width as f64;
        }
        self.forget(seats.queue);
    }

    /// Seats the request whose turn it is, if there is room for it.
    pub fn next(&mut self, now: Duration) -> Option<(W, Seats)> {
        if self.waiting == 0 {
            return None;
        }
        self.advance(now);
        let index = self.turn()?;
        let width = self.active.get(&index)?.waiting.front()?.width;
        if !self.fits(width) {
            return None;
        }
        self.note_dispatch(index);
        let queue = self.active.get_mut(&index)?;
        let one = queue.waiting.pop_front()?;
        queue.waiting_seats -= width;
        queue.start = queue.start.max(one.came);
        self.waiting -= 1;
        self.waiting_seats -= width;
        self.last = index;
        Some((one.who, self.seat(index, width, now)))
    }

    /// Of a flow's hand, the queue in which least is.
    fn choose(&self, flow: u64) -> usize {
        let filled = |queue: &usize| {
            let queue = self.active.get(queue);
            queue.map_or(0, |queue| queue.waiting_seats + queue.seats)
        };
        shuffle::deal(flow, self.shape.queues, self.shape.hand)
            .min_by_key(filled)
            .unwrap_or_default()
    }

    /// Whether there is room. One that is wider than everything goes alone.
    fn fits(&self, width: u64) -> bool {
        match width > self.limit {
            true => self.executing == 0,
            false => self.seats + width <= self.limit,
        }
    }

    fn seat(&mut self, index: usize, width: u64, now: Duration) -> Seats {
        let queue = self.queue(index);
        queue.start += GUESS_SECONDS * width as f64;
        queue.executing += 1;
        queue.seats += width;
        self.executing += 1;
        self.seats += width;
        Seats {
            width,
            queue: index,
            since: now,
        }
    }

    /// The queue whose first request would end first.
    fn turn(&self) -> Option<usize> {
        let after = self.active.range(self.last + 1..);
        let before = self.active.range(..=self.last);
        let mut best: Option<(f64, usize)> = None;
        for (index, queue) in after.chain(before) {
            let Some(first) = queue.waiting.front() else {
                continue;
            };
            let end = queue.start.max(first.came) + GUESS_SECONDS * first.width as f64;
            if best.is_none_or(|(least, _)| end < least) {
                best = Some((end, *index));
            }
        }
        best.map(|(_, index)| index)
    }

    fn queue(&mut self, index: usize) -> &mut Queue<W> {
        let start = self.virtual_now;
        self.active.entry(index).or_insert_with(|| Queue {
            waiting: VecDeque::new(),
            waiting_seats: 0,
            executing: 0,
            seats: 0,
            start,
        })
    }

    fn forget(&mut self, index: usize) {
        let empty = |queue: &Queue<W>| queue.waiting.is_empty() && queue.executing == 0;
        if self.active.get(&index).is_some_and(empty) {
            self.active.remove(&index);
        }
    }

    /// Virtual time goes on at the rate at which each active queue is served. Seats that stay empty because the next
    /// request is too wide for them serve nobody: with them, time would run away from queues that get their part.
    fn advance(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.now).as_secs_f64();
        self.now = self.now.max(now);
        if !self.active.is_empty() {
            let served = self.seats.min(self.limit);
            self.virtual_now += passed * served as f64 / self.active.len() as f64;
        }
    }
}

#[cfg(test)]
#[path = "queues/tests.rs"]
mod tests;
