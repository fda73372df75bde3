//! A webhook as its configuration describes it. Pure.

use std::time::Duration;

use api::object;
use api::value::{get, int, list, text};
use serde_json::Value;

use crate::admission::dynamic::conditions::Conditions;
use crate::admission::dynamic::rules::Matcher;
use crate::outbound::endpoint::Endpoint;

/// The versions of AdmissionReview that are spoken.
const REVIEWS: [&str; 2] = ["v1", "v1beta1"];
const TIMEOUT_SECONDS: u64 = 10;

/// One webhook of a configuration.
pub struct Hook {
    /// The configuration that it is one of.
    pub configuration: String,
    /// Its name.
    pub name: String,
    /// Configuration and name, by which it is known within one request.
    pub id: String,
    /// Where it is, or what is wrong with that.
    pub endpoint: Result<Endpoint, String>,
    /// What it is asked about.
    pub matcher: Matcher,
    /// And under which conditions.
    pub conditions: Conditions,
    /// Whether a failure to ask lets the request pass.
    pub fails_open: bool,
    /// How long it may take, seconds.
    pub timeout_seconds: u64,
    /// Whether it may be asked about dry runs.
    pub dry_runs: bool,
    /// Whether it is asked again when others changed the object after it.
    pub asked_again: bool,
    /// The version of AdmissionReview it is sent.
    pub review: &'static str,
}

impl Hook {
    /// The webhooks of a configuration, in their order.
    pub fn all(configuration: &Value) -> Vec<Self> {
        let name = object::name(configuration);
        let hooks = list(configuration, "webhooks").iter();
        hooks.map(|hook| Self::of(name, hook)).collect()
    }

    fn of(configuration: &str, hook: &Value) -> Self {
        let name = text(hook, "name");
        let seconds = int(hook, "timeoutSeconds").and_then(|n| u64::try_from(n).ok());
        let spoken = list(hook, "admissionReviewVersions").iter();
        let mut spoken = spoken.filter_map(|version| REVIEWS.into_iter().find(|known| version == known));
        Self {
            configuration: configuration.to_owned(),
            id: format!("{configuration}/{name}"),
            endpoint: Endpoint::of(get(hook, "clientConfig")),
            matcher: Matcher::of_webhook(hook),
            conditions: Conditions::of(hook),
            fails_open: text(hook, "failurePolicy") == "Ignore",
            timeout_seconds: seconds.unwrap_or(TIMEOUT_SECONDS),
            dry_runs: matches!(text(hook, "sideEffects"), "None" | "NoneOnDryRun"),
            asked_again: text(hook, "reinvocationPolicy") == "IfNeeded",
            review: spoken.next().unwrap_or("v1"),
            name: name.to_owned(),
        }
    }

    /// How long it may take.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_hook_is_what_its_configuration_says() {
        let configuration = json!({"metadata": {"name": "c"}, "webhooks": [
            {"name": "a.b.c", "clientConfig": {"url": "https://h/p"}, "sideEffects": "None",
             "admissionReviewVersions": ["v2", "v1beta1"], "timeoutSeconds": 3, "failurePolicy": "Ignore"},
            {"name": "d.e.f", "clientConfig": {}, "sideEffects": "Some", "reinvocationPolicy": "IfNeeded"}]});
        let hooks = Hook::all(&configuration);
        let [first, second] = hooks.as_slice() else {
            panic!("{}", hooks.len())
        };
        assert_eq!((first.id.as_str(), first.review), ("c/a.b.c", "v1beta1"));
        assert!(first.endpoint.is_ok() && first.fails_open && first.dry_runs && !first.asked_again);
        assert_eq!(first.timeout(), Duration::from_secs(3));
        assert!(second.endpoint.is_err() && !second.fails_open && !second.dry_runs && second.asked_again);
        assert_eq!(second.timeout_seconds, TIMEOUT_SECONDS);
    }
}
