//! How long clients wait while something happens to those that serve them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::table::{ms, quantile};

/// Answers after which a client counts as served again; those that were on their way do not count.
const ANSWERS: usize = 2;

/// When clients were answered. Clones note in the same place.
#[derive(Clone, Default)]
pub struct Answered(Arc<Mutex<Vec<(Instant, usize)>>>);

/// The longest time without an answer.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pause {
    /// To anybody.
    pub anybody: Duration,
    /// To one of the clients.
    pub one: Duration,
}

impl Answered {
    /// This client was answered now.
    pub fn note(&self, client: usize) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push((Instant::now(), client));
    }

    /// The pauses after `began`, once all of so many clients are served again.
    pub fn pause(&self, began: Instant, clients: usize) -> Option<Pause> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let since = all.get(all.partition_point(|(at, _)| *at < began)..)?;
        let of = |client| {
            since
                .iter()
                .filter(move |(_, whose)| *whose == client)
                .map(|(at, _)| *at)
        };
        let served = (0..clients).all(|client| of(client).count() > ANSWERS);
        let one = (0..clients).map(|client| longest(began, of(client))).max();
        served.then(|| Pause {
            anybody: longest(began, since.iter().map(|(at, _)| *at)),
            one: one.unwrap_or_default(),
        })
    }
}

/// The longest time between two of these moments.
fn longest(began: Instant, moments: impl Iterator<Item = Instant>) -> Duration {
    let (mut before, mut longest) = (began, Duration::ZERO);
    for at in moments {
        longest = longest.max(at - before);
        before = at;
    }
    longest
}

/// What [`row`] has a cell for, after what comes before.
pub const HEAD: [&str; 6] = [
    "anybody's, p50",
    "p99",
    "longest",
    "one client's, p50",
    "p99",
    "longest",
];

/// Cells of a table: median, 99th percentile and maximum of both sorts of pauses.
pub fn row(pauses: &[Pause]) -> Vec<String> {
    let of = |figure: fn(&Pause) -> Duration| pauses.iter().map(figure).map(ms).collect::<Vec<_>>();
    let both = [of(|pause| pause.anybody), of(|pause| pause.one)];
    let cells = both.into_iter().flat_map(|mut values| {
        [0.5, 0.99, 1.0].map(|share| format!("{:.0} ms", quantile(&mut values, share)))
    });
    cells.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_ends_when_all_are_served_again() {
        let (answered, began) = (Answered::default(), Instant::now());
        (0..3).for_each(|_| answered.note(0));
        assert!(answered.pause(began, 2).is_none());
        std::thread::sleep(Duration::from_millis(5));
        (0..3).for_each(|_| answered.note(1));
        let pause = answered.pause(began, 2).expect("all are served");
        assert!(pause.one >= Duration::from_millis(5) && pause.anybody <= pause.one);
    }
}
