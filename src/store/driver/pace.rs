//! How the driver shares one sync, and one wake-up, among many writers: it rests shortly before it takes a batch, so
//! that more of them are in it. Pure: when proposals came is told, and for how long to rest comes out.
//!
//! A thread that goes before all others takes each proposal the moment it comes, and pays for each what a batch costs.
//! Writers that come while others are under way are a crowd. A crowd's first proposal waits for a few others, a
//! millisecond at most, and not so long that all of them wait; the time that it waited for an earlier batch counts, so
//! where the disk is slow nobody rests. A lone writer is no crowd and never waits: its next proposal comes after the last
//! one's answer.

use std::time::{Duration, Instant};

/// Longest time that a proposal waits for company.
const REST_MAX: Duration = Duration::from_millis(1);
/// Shortest rest: for less it is not worth being woken.
const REST_MIN: Duration = Duration::from_micros(50);
/// So many rounds in which somebody had company, less those in which nobody had, make a crowd.
const CROWD: u32 = 4;
/// More of them are not counted, so that what was is soon forgotten.
const CROWD_MAX: u32 = 8;
/// A batch of so many costs each of them little enough,
const ENOUGH: usize = 8;
/// or where that is more, of one part in so many of all who write: they wait for each other anyway.
const PARTS: usize = 4;
/// A write that takes longer than this is worth another thread, while more waits.
const QUICK: Duration = Duration::from_micros(400);

/// When the proposals of one round came.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// The first one.
    pub first: Instant,
    /// The last one.
    pub last: Instant,
    /// How many there are.
    pub count: usize,
}

impl Round {
    /// One proposal, which came then.
    pub fn of(came: Instant) -> Round {
        Round {
            first: came,
            last: came,
            count: 1,
        }
    }

    /// One more.
    pub fn add(&mut self, came: Instant) {
        self.first = self.first.min(came);
        self.last = self.last.max(came);
        self.count += 1;
    }
}

/// See the module.
#[derive(Debug)]
pub struct Pace {
    crowd: u32,
    rest: Duration,
    /// How long the last write to the disk took.
    wrote: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            crowd: 0,
            rest: REST_MIN,
            wrote: Duration::ZERO,
        }
    }
}

impl Pace {
    /// Until when to rest before a batch is taken whose first proposal came at `came`.
    pub fn rest(&self, came: Instant, now: Instant) -> Option<Instant> {
        let until = came + self.rest;
        (self.is_crowd() && until >= now + REST_MIN / 2).then_some(until)
    }

    /// Learns from a round whose batch was taken while so many were under way already; those of earlier rounds who were
    /// answered last were answered after `answered`.
    pub fn took(&mut self, round: &Round, under_way: usize, answered: Option<Instant>) {
        let busy = under_way > 0 || answered.is_some_and(|at| round.first < at);
        match (busy || round.count > 1, self.is_crowd()) {
            (true, _) => self.crowd = (self.crowd + 1).min(CROWD_MAX),
            (false, true) => self.crowd /= 2,
            (false, false) => self.crowd = self.crowd.saturating_sub(1),
        }
        // If nobody comes any more while the batch before is written, then too many were waited for: they all sit in one
        // boat, and before and behind it nobody has anything to do.
        let enough = ENOUGH.max((under_way + round.count) / PARTS);
        let rest = match busy && round.count < enough {
            true => self.rest * 5 / 4,
            false => self.rest * 4 / 5,
        };
        self.rest = rest.clamp(REST_MIN, REST_MAX);
    }

    /// Learns how long a write to the disk took.
    pub fn wrote(&mut self, took: Duration) {
        self.wrote = took;
    }

    /// Whether the disk is so quick that handing a write to another thread takes more time than it saves.
    pub fn is_quick(&self) -> bool {
        self.wrote <= QUICK
    }

    fn is_crowd(&self) -> bool {
        self.crowd >= CROWD
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// A driver whose writes take so many microseconds, on a clock of its own.
    struct Driver {
        pace: Pace,
        now: Instant,
        answered: Option<Instant>,
        write: u32,
        /// When proposals come that have not been taken.
        coming: Vec<Instant>,
    }

    impl Driver {
        fn new(write: u32) -> Driver {
            Driver {
                pace: Pace::default(),
                now: Instant::now(),
                answered: None,
                write,
                coming: vec![],
            }
        }

        /// Somebody comes so many microseconds from now.
        fn comes(&mut self, later: u32) {
            self.coming.push(self.now + MICROSECOND * later);
            self.coming.sort();
        }

        /// One round: how long it rested, and how many it took.
        fn round(&mut self) -> (Duration, usize) {
            let first = self.coming[0];
            let began = self.now.max(first);
            self.now = self.pace.rest(first, began).unwrap_or(began);
            let rested = self.now - began;
            let mut round = Round::of(first);
            let later = self.coming.partition_point(|came| *came <= self.now);
            self.coming
                .drain(..later)
                .skip(1)
                .for_each(|came| round.add(came));
            self.pace.took(&round, 0, self.answered);
            self.now += MICROSECOND * self.write;
            self.pace.wrote(MICROSECOND * self.write);
            self.answered = Some(self.now);
            (rested, round.count)
        }

        /// Rounds of so many writers who come back, one behind the other, so many microseconds after their answers.
        fn rounds(&mut self, rounds: usize, writers: usize, pause: u32) -> (Duration, usize) {
            let mut last = (Duration::ZERO, 0);
            for _ in 0..rounds {
                let back = writers.saturating_sub(self.coming.len());
                (1..=back as u32).for_each(|nth| self.comes(nth * pause));
                last = self.round();
            }
            last
        }
    }

    #[test]
    fn a_lone_writer_never_waits() {
        let mut driver = Driver::new(120);
        for pause in (1..200).chain([1000, 1]) {
            assert_eq!(
                driver.rounds(1, 1, pause),
                (Duration::ZERO, 1),
                "after {pause} µs"
            );
        }
    }

    /// As many clients of a busy processor: hardly one comes while another's write is on its way, but that goes on and on.
    #[test]
    fn a_crowd_that_keeps_coming_is_waited_for() {
        let mut driver = Driver::new(120);
        (1..2000).for_each(|nth| driver.comes(nth * 100));
        let rounds: Vec<(Duration, usize)> = (0..60).map(|_| driver.round()).collect();
        assert_eq!(rounds[0], (Duration::ZERO, 1), "nobody knows yet");
        assert!(
            rounds[40..].iter().all(|(_, count)| (5..12).contains(count)),
            "{rounds:?}"
        );
        assert!(rounds.iter().all(|(rested, _)| *rested <= REST_MAX), "{rounds:?}");
    }

    /// Four writers are all there soon after they were answered: to wait longer would be in vain.
    #[test]
    fn nobody_waits_long_for_who_is_there() {
        let mut driver = Driver::new(120);
        driver.rounds(50, 4, 20);
        for _ in 0..50 {
            let (rested, count) = driver.rounds(1, 4, 20);
            assert!(rested <= 4 * REST_MIN, "{count} after {rested:?}");
        }
    }

    /// As many clients as a busy server has: the more they are, the more share a batch.
    #[test]
    fn many_share_more() {
        let share = |under_way: usize| {
            let mut pace = Pace::default();
            let (now, mut shared) = (Instant::now(), 0);
            for _ in 0..100 {
                let rested = pace.rest(now, now).map_or(Duration::ZERO, |until| until - now);
                // One every 10 µs.
                shared = 1 + (rested.as_micros() / 10) as usize;
                let round = Round {
                    count: shared,
                    ..Round::of(now)
                };
                pace.took(&round, under_way, None);
            }
            shared
        };
        assert!((5..12).contains(&share(15)), "{}", share(15));
        assert!((40..80).contains(&share(200)), "{}", share(200));
    }

    #[test]
    fn who_is_left_alone_waits_no_more() {
        let mut driver = Driver::new(120);
        driver.rounds(100, 32, 30);
        driver.coming.clear();
        driver.rounds(2, 1, 30);
        assert_eq!(driver.rounds(1, 1, 30), (Duration::ZERO, 1));
    }

    /// Two now and then, such as a write and what a controller makes of it, are no crowd.
    #[test]
    fn company_now_and_then_makes_no_crowd() {
        let mut driver = Driver::new(120);
        for _ in 0..100 {
            for writers in [2, 1, 1] {
                let (rested, _) = driver.rounds(1, writers, 0);
                assert_eq!(rested, Duration::ZERO);
                driver.coming.clear();
            }
        }
    }

    /// Who has waited for a slow disk has waited long enough; and such a disk gets a thread of its own.
    #[test]
    fn a_slow_disk_gathers_by_itself() {
        let mut driver = Driver::new(5000);
        driver.rounds(20, 16, 30);
        assert!(!driver.pace.is_quick());
        for _ in 0..20 {
            driver.comes(10);
            driver.comes(20);
            driver.now += Duration::from_millis(5);
            assert_eq!(driver.round().0, Duration::ZERO);
        }
        assert!(Pace::default().is_quick());
    }
}
