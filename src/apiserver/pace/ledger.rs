//! Who has had how much of the processor lately, and whose turn it is among those who want more. Pure: time is a
//! parameter, and what waits is the caller's.
//!
//! Turns go to whoever has had least, by virtual time: one who was away begins where the others are, so that nobody
//! saves up turns. What a turn will cost is known only when it is over, and is charged then.
//!
//! Of one client, what it asked for first goes first. Were all that it asked for to go on evenly, all would be done at
//! about the same time, and until then nobody would get one of the seats that they have (`fairness/`).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

/// A client, by a number made of its name.
pub type Who = u64;

/// How long it takes until what was had is mostly forgotten, in seconds.
const MEMORY_SECONDS: f64 = 0.2;
/// Who has had less than this part of one processor is modest.
const MODEST: f64 = 0.1;
/// How long one processor is kept for modest clients after one was here.
const SPARED_FOR: Duration = Duration::from_millis(100);
/// A client whose tasks would all be through a step within this time, in seconds, were they all ready, is in nobody's
/// way. (A connection and its request count as two, and are hardly ever ready together: half of it is what others may
/// wait.)
const BRIEF: f64 = 0.004;
/// The same while modest clients are about, who would feel it.
const BRIEF_BESIDE_THE_MODEST: f64 = 0.0015;
/// How much older than what comes now something counts at most. Without a bound, whoever has watches of last week
/// could keep its own requests waiting by them.
const SENIORITY_MAX: Duration = Duration::from_secs(1);
/// Above so many clients, those of whom nothing is left to know are forgotten.
const TABS_MAX: usize = 4096;

/// A client's place among those who wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    who: Who,
    turn: Turn,
}

/// Who of one client comes first: since when it counts, and a number, which makes it unique.
type Turn = (Duration, u64);

/// What is known of a client.
struct Tab<W> {
    /// Seconds of processor, fading.
    used: f64,
    /// In how many steps, fading alike.
    steps: f64,
    /// Its tasks, whether they are at work or at rest.
    tasks: usize,
    /// When that was worked out.
    at: Duration,
    /// All that it has had, in virtual time.
    had: Duration,
    waiting: BTreeMap<Turn, W>,
}

impl<W> Tab<W> {
    /// Lets time pass over it.
    fn fade(&mut self, now: Duration) {
        let left = fading(now.saturating_sub(self.at));
        self.used *= left;
        self.steps *= left;
        self.at = self.at.max(now);
    }

    /// For how many seconds its tasks would keep one processor, if each took a step.
    fn crowd(&self) -> f64 {
        match self.steps > 0.0 {
            true => self.used / self.steps * self.tasks as f64,
            false => 0.0,
        }
    }
}

/// Turns at the processor, and who waits for one.
pub struct Ledger<W> {
    processors: usize,
    out: usize,
    /// When a modest client was here last.
    modest: Option<Duration>,
    tabs: HashMap<Who, Tab<W>>,
    /// At how many tabs it is looked for some to forget.
    full: usize,
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
            full: TABS_MAX,
            order: BTreeSet::new(),
            reached: Duration::ZERO,
            number: 0,
        }
    }

    /// A client has one more task.
    pub fn came(&mut self, who: Who, now: Duration) {
        self.tab(who, now).tasks += 1;
    }

    /// A task of a client is over.
    pub fn went(&mut self, who: Who, now: Duration) {
        let tab = self.tab(who, now);
        tab.tasks = tab.tasks.saturating_sub(1);
    }

    /// So many tasks turn out to be another client's.
    pub fn moved(&mut self, tasks: usize, from: Who, to: Who, now: Duration) {
        let tab = self.tab(from, now);
        tab.tasks = tab.tasks.saturating_sub(tasks);
        self.tab(to, now).tasks += tasks;
    }

    /// Whether a client needs no turn: it is modest, or has so little ready at once that others hardly wait for it.
    /// (A turn costs it a round through the runtime's queue, which at such a client's full speed is half as much again
    /// as the work itself.)
    pub fn goes_freely(&mut self, who: Who, now: Duration) -> bool {
        let brief = match self.spares(now) {
            true => BRIEF_BESIDE_THE_MODEST,
            false => BRIEF,
        } * self.processors as f64;
        let tab = self.tab(who, now);
        let modest = tab.used < MODEST * MEMORY_SECONDS;
        let free = modest || tab.crowd() <= brief;
        if modest {
            self.modest = Some(now);
        }
        free
    }

    /// Lets one wait for a turn, to be given back by [`Ledger::end`], in the place of what began at `since`. It may be
    /// there at once: call [`Ledger::next`] after it.
    pub fn wait(&mut self, who: Who, since: Duration, waiter: W, now: Duration) -> Place {
        self.number += 1;
        let turn = (since.max(now.saturating_sub(SENIORITY_MAX)), self.number);
        let reached = self.reached;
        let tab = self.tab(who, now);
        if tab.waiting.is_empty() {
            tab.had = tab.had.max(reached);
        }
        tab.waiting.insert(turn, waiter);
        let had = tab.had;
        self.order.insert((had, who));
        Place { who, turn }
    }

    /// One waits no longer; whether it did.
    pub fn leave(&mut self, place: Place) -> bool {
        let Some(tab) = self.tabs.get_mut(&place.who) else {
            return false;
        };
        if tab.waiting.remove(&place.turn).is_none() {
            return false;
        }
        let (had, none) = (tab.had, tab.waiting.is_empty());
        if none {
            self.order.remove(&(had, place.who));
        }
        true
    }

    /// A client has had so much for one step, in a turn or without.
    pub fn charge(&mut self, who: Who, spent: Duration, now: Duration) {
        let tab = self.tab(who, now);
        tab.used += spent.as_secs_f64();
        tab.steps += 1.0;
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
        let (_, waiter) = tab.waiting.pop_first()?;
        if !tab.waiting.is_empty() {
            self.order.insert((had, who));
        }
        self.reached = self.reached.max(had);
        self.out += 1;
        Some(waiter)
    }

    fn at_once(&self, now: Duration) -> usize {
        self.processors
            .saturating_sub(usize::from(self.spares(now)))
            .max(1)
    }

    /// Whether modest clients are about.
    fn spares(&self, now: Duration) -> bool {
        self.modest.is_some_and(|at| now.saturating_sub(at) < SPARED_FOR)
    }

    /// A client's tab, as it stands now.
    fn tab(&mut self, who: Who, now: Duration) -> &mut Tab<W> {
        if self.tabs.len() >= self.full && !self.tabs.contains_key(&who) {
            self.forget(now);
        }
        let tab = self.tabs.entry(who).or_insert_with(|| Tab {
            used: 0.0,
            steps: 0.0,
            tasks: 0,
            at: now,
            had: Duration::ZERO,
            waiting: BTreeMap::new(),
        });
        tab.fade(now);
        tab
    }

    /// Forgets whom nothing is left to know of. Who has tasks is kept: as many as there are connections.
    fn forget(&mut self, now: Duration) {
        self.tabs.retain(|_, tab| {
            tab.fade(now);
            tab.tasks > 0 || !tab.waiting.is_empty() || tab.used > MODEST * MEMORY_SECONDS / 100.0
        });
        self.full = TABS_MAX.max(2 * self.tabs.len());
    }
}

/// What is left of a quantity after so long.
fn fading(passed: Duration) -> f64 {
    match passed.is_zero() {
        true => 1.0,
        false => (-passed.as_secs_f64() / MEMORY_SECONDS).exp(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A client that is modest no more, and of long steps.
    fn greedy(ledger: &mut Ledger<&'static str>, who: Who) {
        ledger.came(who, Duration::ZERO);
        ledger.charge(who, 100 * MS, Duration::ZERO);
    }

    #[test]
    fn the_modest_need_no_turn() {
        let mut ledger = Ledger::<&str>::new(1);
        assert!(ledger.goes_freely(1, Duration::ZERO));
        greedy(&mut ledger, 1);
        assert!(!ledger.goes_freely(1, Duration::ZERO) && ledger.goes_freely(2, Duration::ZERO));
        // It is forgotten who was greedy a while ago.
        assert!(!ledger.goes_freely(1, 300 * MS) && ledger.goes_freely(1, 400 * MS));
    }

    #[test]
    fn few_brief_tasks_need_no_turn() {
        let mut ledger = Ledger::<&str>::new(2);
        // Two processors' time, in steps of a tenth of a millisecond.
        for _ in 0..4000 {
            ledger.charge(1, MS / 10, Duration::ZERO);
        }
        ledger.moved(80, 9, 1, Duration::ZERO);
        assert!(
            ledger.goes_freely(1, Duration::ZERO),
            "eight milliseconds of work"
        );
        ledger.came(1, Duration::ZERO);
        assert!(!ledger.goes_freely(1, Duration::ZERO), "a task too many");
        ledger.went(1, Duration::ZERO);
        assert!(ledger.goes_freely(1, Duration::ZERO));
        ledger.moved(79, 1, 2, Duration::ZERO);
        ledger.charge(1, 100 * MS, Duration::ZERO);
        assert!(ledger.goes_freely(1, Duration::ZERO), "one task, seldom long");
        // It keeps no processor for itself: that is for the modest.
        ledger.came(3, Duration::ZERO);
        ledger.charge(3, 100 * MS, Duration::ZERO);
        for waiter in ["one", "two"] {
            ledger.wait(3, Duration::ZERO, waiter, Duration::ZERO);
            assert_eq!(ledger.next(Duration::ZERO), Some(waiter));
        }
    }

    #[test]
    fn beside_the_modest_less_is_brief() {
        let mut ledger = Ledger::<&str>::new(1);
        for _ in 0..1000 {
            ledger.charge(1, MS / 10, Duration::ZERO);
        }
        ledger.moved(30, 9, 1, Duration::ZERO);
        assert!(
            ledger.goes_freely(1, Duration::ZERO),
            "three milliseconds of work"
        );
        assert!(ledger.goes_freely(2, Duration::ZERO));
        assert!(!ledger.goes_freely(1, Duration::ZERO));
        ledger.moved(20, 1, 9, Duration::ZERO);
        assert!(ledger.goes_freely(1, Duration::ZERO));
    }

    #[test]
    fn what_began_first_goes_first() {
        let mut ledger = Ledger::new(1);
        greedy(&mut ledger, 1);
        let now = 5000 * MS;
        for (since, waiter) in [(4900, "second"), (5000, "third"), (4800, "first")] {
            ledger.wait(1, since * MS, waiter, now);
        }
        let mut went = || {
            let next = ledger.next(now);
            ledger.end();
            next
        };
        assert_eq!([went(), went()], [Some("first"), Some("second")]);
        // What is very old is not older than what waited long.
        ledger.wait(1, Duration::ZERO, "of old", now + 2000 * MS);
        let mut went = || {
            let next = ledger.next(now);
            ledger.end();
            next
        };
        assert_eq!([went(), went(), went()], [Some("third"), Some("of old"), None]);
    }

    #[test]
    fn one_processor_is_kept_while_modest_clients_are_about() {
        let mut ledger = Ledger::new(2);
        greedy(&mut ledger, 1);
        ledger.wait(1, Duration::ZERO, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        assert!(ledger.goes_freely(2, Duration::ZERO));
        ledger.wait(1, Duration::ZERO, "second", Duration::ZERO);
        assert_eq!(ledger.next(50 * MS), None);
        assert_eq!(ledger.next(100 * MS), Some("second"));
    }

    #[test]
    fn turns_go_to_whoever_has_had_least() {
        let mut ledger = Ledger::new(1);
        greedy(&mut ledger, 1);
        greedy(&mut ledger, 2);
        ledger.wait(1, Duration::ZERO, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        for waiter in ["a", "b", "c"] {
            ledger.wait(1, Duration::ZERO, waiter, Duration::ZERO);
        }
        ledger.wait(2, Duration::ZERO, "x", Duration::ZERO);
        ledger.wait(2, Duration::ZERO, "y", Duration::ZERO);
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
        ledger.wait(1, Duration::ZERO, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        ledger.wait(1, Duration::ZERO, "old", Duration::ZERO);
        ledger.end();
        assert_eq!(ledger.next(Duration::ZERO), Some("old"));
        ledger.charge(1, 5 * MS, Duration::ZERO);
        greedy(&mut ledger, 2);
        ledger.wait(1, Duration::ZERO, "old", Duration::ZERO);
        ledger.wait(2, Duration::ZERO, "new", Duration::ZERO);
        ledger.end();
        assert_eq!(ledger.next(Duration::ZERO), Some("new"));
        ledger.charge(2, 6 * MS, Duration::ZERO);
        ledger.wait(2, Duration::ZERO, "new", Duration::ZERO);
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
        ledger.wait(1, Duration::ZERO, "first", Duration::ZERO);
        assert_eq!(ledger.next(Duration::ZERO), Some("first"));
        let place = ledger.wait(1, Duration::ZERO, "gone", Duration::ZERO);
        ledger.wait(1, Duration::ZERO, "here", Duration::ZERO);
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
            ledger.goes_freely(who, Duration::from_secs(who));
        }
        assert!(ledger.tabs.len() <= TABS_MAX);
    }

    #[test]
    fn whoever_has_tasks_is_remembered() {
        let mut ledger = Ledger::<&str>::new(1);
        let later = Duration::from_secs(3600);
        for who in 0..3 * TABS_MAX as u64 {
            ledger.came(who, Duration::ZERO);
            ledger.goes_freely(u64::MAX - who, later);
        }
        for who in 0..3 * TABS_MAX as u64 {
            assert_eq!(ledger.tab(who, later).tasks, 1);
        }
    }
}
