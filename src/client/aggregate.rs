//! Which events are written, counted up or dropped. Pure; the rules and
//! figures are those of client-go's event correlator.

use std::collections::{HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};

/// Objects remembered at most; the oldest go first.
const ENTRIES_MAX: usize = 4096;
/// Different messages of one reason within the window before they are merged.
const SIMILAR_MAX: usize = 10;
const SIMILAR_WINDOW: SignedDuration = SignedDuration::from_secs(600);
/// Events about one object: a burst of 25, then one every five minutes.
const BURST: f64 = 25.0;
const REFILL_PER_SECOND: f64 = 1.0 / 300.0;

/// What distinguishes an event from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    /// Kind, namespace, name, uid and field path of the object.
    pub object: String,
    /// `Normal` or `Warning`.
    pub type_: &'static str,
    /// Why.
    pub reason: String,
}

/// What is to be done about an event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Too many about this object: say nothing.
    Drop,
    /// Write it anew with this message.
    Create(String),
    /// Count an event up that exists under this name.
    Count {
        name: String,
        count: i32,
        message: String,
    },
}

struct Seen {
    name: String,
    count: i32,
    at: Timestamp,
}

struct Similar {
    messages: HashSet<String>,
    since: Timestamp,
}

struct Bucket {
    tokens: f64,
    at: Timestamp,
}

/// Remembers what was said.
#[derive(Default)]
pub(crate) struct Aggregator {
    seen: HashMap<(Key, String), Seen>,
    similar: HashMap<Key, Similar>,
    buckets: HashMap<String, Bucket>,
}

impl Aggregator {
    /// Decides about an event.
    pub fn observe(&mut self, key: &Key, message: &str, now: Timestamp) -> Step {
        if !self.may_speak(&key.object, now) {
            return Step::Drop;
        }
        let (identity, message) = self.merge(key, message, now);
        match self.seen.get_mut(&(key.clone(), identity)) {
            Some(seen) => {
                seen.count = seen.count.saturating_add(1);
                seen.at = now;
                Step::Count {
                    name: seen.name.clone(),
                    count: seen.count,
                    message,
                }
            }
            None => Step::Create(message),
        }
    }

    /// Remembers under which name an event was written.
    pub fn written(&mut self, key: &Key, message: &str, name: &str, now: Timestamp) {
        if self.seen.len() >= ENTRIES_MAX {
            drop_oldest_half(&mut self.seen, |seen| seen.at);
        }
        let identity = self.identity(key, message);
        self.seen.insert(
            (key.clone(), identity),
            Seen {
                name: name.to_owned(),
                count: 1,
                at: now,
            },
        );
    }

    /// Forgets a written event, which has expired or was deleted.
    pub fn gone(&mut self, key: &Key, message: &str) {
        let identity = self.identity(key, message);
        self.seen.remove(&(key.clone(), identity));
    }

    fn identity(&self, _key: &Key, message: &str) -> String {
        if message.starts_with(COMBINED) {
            COMBINED.to_owned()
        } else {
            message.to_owned()
        }
    }

    /// The identity and text of a message: its own, or the common one of too many similar ones.
    fn merge(&mut self, key: &Key, message: &str, now: Timestamp) -> (String, String) {
        if self.similar.len() >= ENTRIES_MAX {
            drop_oldest_half(&mut self.similar, |similar| similar.since);
        }
        let fresh = || Similar {
            messages: HashSet::new(),
            since: now,
        };
        let similar = self.similar.entry(key.clone()).or_insert_with(fresh);
        if now.duration_since(similar.since) > SIMILAR_WINDOW {
            *similar = fresh();
        }
        similar.since = now;
        if similar.messages.len() < SIMILAR_MAX {
            similar.messages.insert(message.to_owned());
        }
        if similar.messages.len() < SIMILAR_MAX || similar.messages.contains(message) {
            return (message.to_owned(), message.to_owned());
        }
        (COMBINED.to_owned(), format!("{COMBINED}{message}"))
    }

    fn may_speak(&mut self, object: &str, now: Timestamp) -> bool {
        if self.buckets.len() >= ENTRIES_MAX {
            drop_oldest_half(&mut self.buckets, |bucket| bucket.at);
        }
        let bucket = self.buckets.entry(object.to_owned()).or_insert(Bucket {
            tokens: BURST,
            at: now,
        });
        let passed = now.duration_since(bucket.at).as_secs_f64().max(0.0);
        bucket.tokens = (bucket.tokens + passed * REFILL_PER_SECOND).min(BURST);
        bucket.at = now;
        let may = bucket.tokens >= 1.0;
        if may {
            bucket.tokens -= 1.0;
        }
        may
    }
}

const COMBINED: &str = "(combined from similar events): ";

fn drop_oldest_half<K: Clone + Eq + std::hash::Hash, V>(
    map: &mut HashMap<K, V>,
    at: impl Fn(&V) -> Timestamp,
) {
    let mut times: Vec<Timestamp> = map.values().map(&at).collect();
    let middle = times.len() / 2;
    if middle < times.len() {
        let (_, median, _) = times.select_nth_unstable(middle);
        let median = *median;
        map.retain(|_, value| at(value) > median);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(reason: &str) -> Key {
        Key {
            object: "Pod/x/a".into(),
            type_: "Normal",
            reason: reason.into(),
        }
    }

    #[test]
    fn the_same_again_is_counted() {
        let mut all = Aggregator::default();
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(all.observe(&key("Pulled"), "m", now), Step::Create("m".into()));
        all.written(&key("Pulled"), "m", "a.1", now);
        let again = Step::Count {
            name: "a.1".into(),
            count: 2,
            message: "m".into(),
        };
        assert_eq!(all.observe(&key("Pulled"), "m", now), again);
        all.gone(&key("Pulled"), "m");
        assert_eq!(all.observe(&key("Pulled"), "m", now), Step::Create("m".into()));
    }

    #[test]
    fn many_similar_ones_become_one() {
        let mut all = Aggregator::default();
        let now = Timestamp::UNIX_EPOCH;
        for n in 0..10 {
            let text = format!("m{n}");
            assert_eq!(all.observe(&key("R"), &text, now), Step::Create(text.clone()));
            all.written(&key("R"), &text, "x", now);
        }
        let combined = "(combined from similar events): m10".to_owned();
        assert_eq!(all.observe(&key("R"), "m10", now), Step::Create(combined.clone()));
        all.written(&key("R"), &combined, "a.c", now);
        let Step::Count { name, count, message } = all.observe(&key("R"), "m11", now) else {
            panic!()
        };
        assert_eq!(
            (name.as_str(), count, message.as_str()),
            ("a.c", 2, "(combined from similar events): m11")
        );
    }

    #[test]
    fn a_flood_is_dropped() {
        let mut all = Aggregator::default();
        let now = Timestamp::UNIX_EPOCH;
        for _ in 0..25 {
            assert_ne!(all.observe(&key("R"), "m", now), Step::Drop);
        }
        assert_eq!(all.observe(&key("R"), "m", now), Step::Drop);
        assert_ne!(
            all.observe(&key("R"), "m", now + SignedDuration::from_secs(301)),
            Step::Drop
        );
    }
}
