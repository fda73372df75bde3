//! When tokens that Secrets keep were used last: a label of the Secret says the day, as in Kubernetes, so that those
//! which nobody needs any more can be found.
//!
//! Whoever looks at a token must not wait for a write, and a busy client must not cause many. So the uses are queued
//! here, each Secret once, and only where its label says another day; somebody else writes them down.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use api::object;
use api::tokens::LAST_USED;
use base::telemetry::Metrics;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::Offset;
use prometheus_client::metrics::counter::Counter;
use serde_json::Value;
use tokio::sync::Notify;

/// As many Secrets wait to be labelled. The next use of one that finds no room finds some later.
const WAITING_MAX: usize = 1024;

/// A Secret whose token was used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Used {
    /// Namespace of the Secret.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// The day.
    pub on: Date,
}

/// What sort of token was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Somebody has asked for it.
    Manual,
    /// It came with its account, which refers to it.
    Generated,
    /// It is refused, since it was not used for long.
    Invalid,
}

/// Uses that are to be written down.
#[derive(Default)]
pub struct Uses {
    // A std mutex: nothing awaits while it is held.
    found: Mutex<Found>,
    queued: Notify,
    manual: Counter,
    generated: Counter,
    invalid: Counter,
}

#[derive(Default)]
struct Found {
    day: Date,
    /// The UIDs of those that were queued on that day and are not written yet, or could not be.
    told: BTreeSet<String>,
    waiting: Vec<Used>,
}

impl Uses {
    /// Shows what is counted.
    pub fn register(&self, metrics: &Metrics) {
        let series = [
            (
                "serviceaccount_legacy_manual_token_uses",
                "Cumulative manually created tokens used",
                &self.manual,
            ),
            (
                "serviceaccount_legacy_auto_token_uses",
                "Cumulative auto-generated legacy tokens used",
                &self.generated,
            ),
            (
                "serviceaccount_invalid_legacy_auto_token_uses",
                "Cumulative invalid auto-generated legacy tokens used",
                &self.invalid,
            ),
        ];
        for (name, help, counter) in series {
            metrics.add(name, help, counter.clone());
        }
    }

    /// The token in that Secret was used, or tried.
    pub(super) fn saw(&self, secret: &Value, sort: Sort, now: Timestamp) {
        match sort {
            Sort::Manual => self.manual.inc(),
            Sort::Generated => self.generated.inc(),
            Sort::Invalid => self.invalid.inc(),
        };
        let today = Offset::UTC.to_datetime(now).date();
        let said = object::label(secret, LAST_USED).unwrap_or_default();
        // Another server's clock may be a little ahead.
        let is_said = |day: Date| said == day.to_string();
        if is_said(today) || today.tomorrow().is_ok_and(is_said) {
            return;
        }
        let mut found = self.found();
        if found.day != today {
            found.day = today;
            found.told.clear();
        }
        let uid = object::uid(secret).to_owned();
        if found.told.len() >= WAITING_MAX || !found.told.insert(uid.clone()) {
            return;
        }
        found.waiting.push(Used {
            namespace: object::namespace(secret).to_owned(),
            name: object::name(secret).to_owned(),
            uid,
            on: today,
        });
        drop(found);
        self.queued.notify_one();
    }

    /// The next that are to be written down, once there are some.
    pub async fn next(&self) -> Vec<Used> {
        loop {
            let waiting = std::mem::take(&mut self.found().waiting);
            if !waiting.is_empty() {
                return waiting;
            }
            self.queued.notified().await;
        }
    }

    /// A use is written down, or may be tried again. One that was refused is not forgotten, so that each further use
    /// on that day is not refused as well.
    pub fn forget(&self, used: &Used) {
        self.found().told.remove(&used.uid);
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use serde_json::json;

    use super::*;

    fn secret(name: &str, last_used: Option<&str>) -> Value {
        let labels = last_used.map(|day| json!({ LAST_USED: day })).unwrap_or_default();
        json!({"metadata": {"namespace": "a", "name": name, "uid": format!("uid-{name}"), "labels": labels}})
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The names of those that wait.
    fn waiting(uses: &Uses) -> Vec<String> {
        let used = uses.next().now_or_never().unwrap_or_default();
        used.into_iter().map(|used| used.name).collect()
    }

    #[test]
    fn each_secret_is_queued_once_a_day() {
        let uses = Uses::default();
        let late = at("2026-03-01T23:59:59Z");
        for _ in 0..3 {
            uses.saw(&secret("key", None), Sort::Manual, late);
            uses.saw(&secret("old", Some("2026-02-28")), Sort::Generated, late);
        }
        // Those whose label says it already, also by a clock that is ahead.
        uses.saw(&secret("today", Some("2026-03-01")), Sort::Manual, late);
        uses.saw(&secret("ahead", Some("2026-03-02")), Sort::Manual, late);
        let queued = uses.next().now_or_never().unwrap();
        assert_eq!(queued.len(), 2);
        assert_eq!(
            (queued[0].name.as_str(), queued[0].on.to_string().as_str()),
            ("key", "2026-03-01")
        );
        uses.saw(&secret("key", None), Sort::Manual, late);
        assert_eq!(waiting(&uses), [""; 0], "it is being written, or was refused");
        uses.forget(&queued[0]);
        uses.saw(&secret("key", None), Sort::Manual, late);
        assert_eq!(waiting(&uses), ["key"]);
        uses.saw(&secret("old", None), Sort::Invalid, at("2026-03-02T00:00:00Z"));
        assert_eq!(waiting(&uses), ["old"], "another day");
        assert_eq!(
            (uses.manual.get(), uses.generated.get(), uses.invalid.get()),
            (7, 3, 1)
        );
    }

    #[test]
    fn what_waits_is_bounded() {
        let uses = Uses::default();
        for number in 0..2 * WAITING_MAX {
            uses.saw(
                &secret(&number.to_string(), None),
                Sort::Manual,
                at("2026-03-01T00:00:00Z"),
            );
        }
        assert_eq!(waiting(&uses).len(), WAITING_MAX);
    }
}
