//! Who has had how much of the processor lately, and whose turn it is among those who want more. Pure: time is a
//! parameter, and what waits is the caller's.
//!
//! Turns go to whoever has had least, by virtual time: one who was away begins where the others are, so that nobody
//! saves up turns. What a turn will cost is known only when it is over, and is charged then.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// A client, by a number made of its name.
pub type Who = u64;

/// How long it takes until what was had is mostly forgotten, in seconds.
const MEMORY_SECONDS: f64 = 0.2;
/// Who has had less than this part of one processor is modest.
const MODEST: f64 = 0.1;
/// How long one processor is kept for modest clients after one was here.
const SPARED_FOR: Duration = Duration::from_millis(100);
/// Above so many clients, those of whom nothing is left to know are forgotten.
const TABS_MAX: usize = 4096;

/// A client's place among those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    who: Who,
    number: u64,
}

/// What is known of a client.
struct Tab<W> {
    /// Seconds of processor, fading.
    used: f64,
    /// When that was worked out.
    at: Duration,
    /// All that it has had, in virtual time.
    had: Duration,
    waiting: VecDeque<(u64, W)>,
}

/// Turns at the processor, and who waits for one.
pub struct Ledger<W> {
    processors: usize,
    out: usize,
    /// When a modest client was here last.
    modest: Option<Duration>,
    tabs: HashMap<Who, Tab<W>>,
    /// Those who wait, whoever has had least first.
    order: BTreeSet<(Duration, Who)>,
    /// What the one who went last had had.
    reached: Duration,
    number: u64,
}

impl<W> Ledger<W> {
    /// As many turns at once as there are processors; one less while modest clients are about.
    pub fn new(processors: usize) -> Self {
        Self {
            processors,
            out: 0,
            modest: None,
            tabs: HashMap::new(),
            order: BTreeSet::new(),
            reached: Duration::ZERO,
            number: 0,
        }
    }

    /// Whether a client is modest, so that it needs no turn.
    pub fn is_modest(&mut self, who: Who, now: Duration) -> bool {
        let modest = self.tab(who, now).used < MODEST * MEMORY_SECONDS;
        if modest {
            self.modest = Some(now);
        }
        modest
    }

    /// Lets one wait for a turn, to be given back by [`Ledger::end`]. It may be there at once: call [`Ledger::next`]
    /// after it.
    pub fn wait(&mut self, who: Who, waiter: W, now: Duration) -> Place {
        self.number += 1;
        let (number, reached) = (self.number, self.reached);
        let tab = self.tab(who, now);
        if tab.waiting.is_empty() {
            tab.had = tab.had.max(reached);
        }
        tab.waiting.push_back((number, waiter));
        let had = tab.had;
        self.order.insert((had, who));
        Place { who, number }
    }

    /// One waits no longer; whether it did.
    pub fn leave(&mut self, place: Place) -> bool {
        let Some(tab) = self.tabs.get_mut(&place.who) else {
            return false;
        };
        let Some(at) = tab.waiting.iter().position(|(number, _)| *number == place.number) else {
            return false;
        };
        tab.waiting.remove(at);
        let (had, none) = (tab.had, tab.waiting.is_empty());
        if none {
            self.order.remove(&(had, place.who));
        }
        true
    }

    /// A client has had so much, in a turn or without.
    pub fn charge(&mut self, who: Who, spent: Duration, now: Duration) {
        let tab = self.tab(who, now);
        tab.used += spent.as_secs_f64();
        let (before, waits) = (tab.had, !tab.waiting.is_empty());
        tab.had += spent;
        let after = tab.had;
        if waits {
            self.order.remove(&(before, who));
            self.order.insert((after, who));
        }
    }

    /// A turn is given back. Call [`Ledger::next`] after it.
    pub fn end(&mut self) {
        self.out = self.out.saturating_sub(1);
    }

    /// Gives a turn to whoever has had least of those who wait, if there is one.
    pub fn next(&mut self, now: Duration) -> Option<W> {
        if self.out >= self.at_once(now) {
            return None;
        }
        let (had, who) = self.order.pop_first()?;
        let tab = self.tabs.get_mut(&who)?;
        let (_, waiter) = tab.waiting.pop_front()?;
        if !tab.waiting.is_empty() {
            self.order.insert((had, who));
        }
        self.reached = self.reached.max(had);
        self.out += 1;
        Some(waiter)
    }

    fn at_once(&self, now: Duration) -> usize {
        let spared = self.modest.is_some_and(|at| now.saturating_sub(at) < SPARED_FOR);
        self.processors.saturating_sub(usize::from(spared)).max(1)
    }

    /// A client's tab, as it stands now.
    fn tab(&mut self, who: Who, now: Duration) -> &mut Tab<W> {
        if self.tabs.len() >= TABS_MAX && !self.tabs.contains_key(&who) {
            self.forget(now);
        }
        let tab = self.tabs.entry(who).or_insert_with(|| Tab {
            used: 0.0,
            at: now,
            had: Duration::ZERO,
            waiting: VecDeque::new(),
        });
        tab.used = faded(tab.used, now.saturating_sub(tab.at));
        tab.at = tab.at.max(now);
        tab
    }

    fn forget(&mut self, now: Duration) {
        self.tabs.retain(|_, tab| {
            let left = faded(tab.used, now.saturating_sub(tab.at));
            !tab.waiting.is_empty() || left > MODEST * MEMORY_SECONDS / 100.0
        });
    }
}

fn faded(used: f64, passed: Duration) -> f64 {
    match passed.is_zero() {
        true => used,
        false => used * (-passed.as_secs_f64() / MEMORY_SECONDS).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A client that is modest no more.
    fn greedy(ledger: &mut Ledger<&'static str>, who: Who) {
        ledger.charge(who, 100 * MS, Duration::ZERO);
    }

    #[test]
    fn the_modest_need_no_turn() {
        let mut ledger = Ledger::<&str>::new(1);
        assert!(ledger.is_modest(1, Duration::ZERO));
        greedy(&mut ledger, 1);
        assert!(!ledger.is_modest(1, Duration::ZERO) && ledger.is_modest(2, Duration::ZERO));
        // It is forgotten who was greedy a while ago.
        assert!(!ledger.is_modest(1, 300 * MS) && ledger.is_modest(1, 400 * MS));
    }

    #[test]
    fn one_processor_is_kept_while_modest_clients_are_about() {
        let mut ledger = Ledger::new(2);
        greedy(&mut ledger, 1);
        ledger.wait(1, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        assert!(ledger.is_modest(2, Duration::ZERO));
        ledger.wait(1, "second", Duration::ZERO);
        assert_eq!(ledger.next(50 * MS), None);
        assert_eq!(ledger.next(100 * MS), Some("second"));
    }

    #[test]
    fn turns_go_to_whoever_has_had_least() {
        let mut ledger = Ledger::new(1);
        greedy(&mut ledger, 1);
        greedy(&mut ledger, 2);
        ledger.wait(1, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        for waiter in ["a", "b", "c"] {
            ledger.wait(1, waiter, Duration::ZERO);
        }
        ledger.wait(2, "x", Duration::ZERO);
        ledger.wait(2, "y", Duration::ZERO);
        let mut went = Vec::new();
        let mut now_with = 1;
        for _ in 0..5 {
            // The first costs more each time.
            ledger.charge(
                now_with,
                if now_with == 1 { 9 * MS } else { 4 * MS },
                Duration::ZERO,
            );
            ledger.end();
            let next = ledger.next(Duration::ZERO).unwrap();
            assert_eq!(ledger.next(Duration::ZERO), None, "there is one turn");
            now_with = if ["x", "y"].contains(&next) { 2 } else { 1 };
            went.push(next);
        }
        assert_eq!(went, ["x", "y", "a", "b", "c"]);
        ledger.end();
        assert_eq!(ledger.next(Duration::ZERO), None);
    }

    #[test]
    fn nobody_saves_up_turns() {
        let mut ledger = Ledger::new(1);
        greedy(&mut ledger, 1);
        ledger.charge(1, 1000 * MS, Duration::ZERO);
        ledger.wait(1, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        ledger.wait(1, "old", Duration::ZERO);
        ledger.end();
        assert_eq!(ledger.next(Duration::ZERO), Some("old"));
        ledger.charge(1, 5 * MS, Duration::ZERO);
        greedy(&mut ledger, 2);
        ledger.wait(1, "old", Duration::ZERO);
        ledger.wait(2, "new", Duration::ZERO);
        ledger.end();
        assert_eq!(ledger.next(Duration::ZERO), Some("new"));
        ledger.charge(2, 6 * MS, Duration::ZERO);
        ledger.wait(2, "new", Duration::ZERO);
        ledger.end();
        assert_eq!(
            ledger.next(Duration::ZERO),
            Some("old"),
            "it begins where the others are"
        );
    }

    #[test]
    fn who_leaves_keeps_nobody_waiting() {
        let mut ledger = Ledger::new(1);
        greedy(&mut ledger, 1);
        ledger.wait(1, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        let place = ledger.wait(1, "gone", Duration::ZERO);
        ledger.wait(1, "here", Duration::ZERO);
        assert!(ledger.leave(place));
        assert!(!ledger.leave(place));
        ledger.end();
        assert_eq!(ledger.next(Duration::ZERO), Some("here"));
        ledger.end();
        assert!(ledger.order.is_empty());
    }

    #[test]
    fn memory_does_not_follow_the_number_of_clients() {
        let mut ledger = Ledger::<&str>::new(1);
        for who in 0..3 * TABS_MAX as u64 {
            ledger.is_modest(who, Duration::from_secs(who));
        }
        assert!(ledger.tabs.len() <= TABS_MAX);
    }
}
