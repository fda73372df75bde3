//! What was used between two scrapes. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::scrape::{Counters, Place, Scrape};

/// What one thing uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Amount {
    /// Billionths of a core.
    pub cpu_nanocores: u64,
    /// Bytes.
    pub memory_bytes: u64,
}

/// What a node and its containers use.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Used {
    /// When it was measured.
    pub at: Timestamp,
    /// Over how long.
    pub window: Duration,
    /// The node.
    pub node: Option<Amount>,
    /// Its containers.
    pub containers: BTreeMap<Place, Amount>,
}

impl Used {
    /// What was used between two scrapes; what was not there the first time has no rate yet, unless it has started
    /// since.
    pub fn between(before: &Scrape, after: &Scrape) -> Self {
        let window = before.age(after.at);
        let none = Counters::default();
        let amounts = after.containers.iter().filter_map(|(place, now)| {
            let then = before
                .containers
                .get(place)
                .filter(|then| then.started == now.started);
            let begun_since = now.started - seconds(before.at);
            let amount = match then {
                Some(then) => amount(then, now, window),
                // It started in between: it used all that it has used since then.
                None if begun_since > 0.0 => {
                    let ran = Duration::try_from_secs_f64(seconds(after.at) - now.started).ok()?;
                    amount(&none, now, ran)
                }
                None => None,
            };
            Some((place.clone(), amount?))
        });
        Self {
            at: after.at,
            window,
            node: amount(&before.node, &after.node, window),
            containers: amounts.collect(),
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_millisecond() as f64 / 1000.0
}

/// `None` when a counter went back, or no time has passed.
fn amount(then: &Counters, now: &Counters, window: Duration) -> Option<Amount> {
    let used = now.cpu_seconds - then.cpu_seconds;
    if used < 0.0 || window.is_zero() {
        return None;
    }
    Some(Amount {
        cpu_nanocores: (used / window.as_secs_f64() * 1e9).round() as u64,
        memory_bytes: now.memory_bytes as u64,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scrape(second: i64, cpu_seconds: f64, started: f64) -> Scrape {
        let place = ("ns".to_owned(), "p".to_owned(), "c".to_owned());
        let counters = Counters {
            cpu_seconds,
            memory_bytes: 4096.0,
            started,
        };
        Scrape {
            at: Timestamp::from_second(second).unwrap(),
            node: counters,
            containers: BTreeMap::from([(place, counters)]),
        }
    }

    #[test]
    fn rates_are_what_was_used_over_the_time_that_passed() {
        let used = Used::between(&scrape(100, 10.0, 5.0), &scrape(110, 15.0, 5.0));
        let half = Amount {
            cpu_nanocores: 500_000_000,
            memory_bytes: 4096,
        };
        assert_eq!((used.node, used.window), (Some(half), Duration::from_secs(10)));
        assert_eq!(used.containers.values().collect::<Vec<_>>(), [&half]);
    }

    #[test]
    fn a_container_that_was_started_again_is_counted_from_there() {
        let used = Used::between(&scrape(100, 10.0, 5.0), &scrape(110, 1.0, 106.0));
        let quarter = used.containers.values().next().unwrap();
        assert_eq!(quarter.cpu_nanocores, 250_000_000);
        assert_eq!(used.node, None);
        // One of unknown age has no rate.
        let used = Used::between(&scrape(100, 10.0, 5.0), &scrape(110, 1.0, 0.0));
        assert!(used.containers.is_empty());
    }
}
