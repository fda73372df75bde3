//! Tokens of ServiceAccounts that came with their accounts once, that are kept in Secrets, and that nobody uses: after a
//! year they are marked, by which they are refused, and after another they go.
//!
//! Only those that their account refers to are touched: nobody has asked for them. Whoever still needs a marked one
//! takes the label away, and has until the next look to use it; so this looks once a day, whatever changes meanwhile.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::references;
use api::tokens::{ACCOUNT, ACCOUNT_UID, INVALID_SINCE, LAST_USED, TRACKING};
use jiff::civil::Date;
use jiff::tz::Offset;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::json;

use crate::Reconciler;
use crate::plan::{Key, Plan, Write};
use crate::view::{View, is_going};

/// For so long they may be without use (Kubernetes' time, and that between looks).
const UNUSED_MAX: SignedDuration = SignedDuration::from_hours(365 * 24);
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// Marks them, and removes them; it looks at all of them together.
pub struct UnusedTokens;

/// Its only key.
pub fn key() -> Key {
    Key::new(TRACKING.0, TRACKING.1)
}

impl Reconciler for UnusedTokens {
    const NAME: &'static str = "legacy-serviceaccount-token-cleaner-controller";

    fn reconcile(&self, _: &Key, view: &View, now: Timestamp) -> Plan {
        let mut plan = Plan::nothing();
        plan.look_again(EVERY);
        let Some(limit) = limit(view, now) else {
            return plan;
        };
        let today = Offset::UTC.to_datetime(now).date();
        let mut used = UsedByPods::default();
        for secret in view.account_secrets.list() {
            if !is_unused(&secret, limit) || !is_generated(&secret, view) || used.has(&secret, view) {
                continue;
            }
            match day(&secret, INVALID_SINCE) {
                Some(since) if since >= date(limit) => {}
                Some(_) => plan.write(Write::delete_unchanged(secret.as_ref())),
                // Without a day, or with what is none.
                None => {
                    let labels = json!({ INVALID_SINCE: today.to_string() });
                    let uid = &secret.metadata.uid;
                    let patch = json!({"metadata": {"uid": uid, "labels": labels}});
                    plan.write(Write::merge(secret.as_ref(), patch));
                }
            }
        }
        plan
    }
}

/// What was used after this time stays; `None` while uses are not noted for long enough.
fn limit(view: &View, now: Timestamp) -> Option<Timestamp> {
    let limit = now.checked_sub(UNUSED_MAX).ok()?;
    let map = view.token_trackings.get(TRACKING.0, TRACKING.1)?;
    let since: Date = map.data.as_ref()?.get("since")?.parse().ok()?;
    // The first whole day is the next.
    let first = since.checked_add(1.day()).ok()?;
    (Offset::UTC.to_timestamp(first.into()).ok()? <= limit).then_some(limit)
}

fn date(at: Timestamp) -> Date {
    Offset::UTC.to_datetime(at).date()
}

/// Whether one that is old enough was not used since.
fn is_unused(secret: &Secret, limit: Timestamp) -> bool {
    let created = secret.metadata.creation_timestamp.as_ref();
    let was_used = match label(secret, LAST_USED) {
        // What is no day says nothing of the use, so it may have been yesterday.
        Some(_) => day(secret, LAST_USED).is_none_or(|on| on >= date(limit)),
        None => false,
    };
    created.is_some_and(|at| at.0 < limit) && !is_going(secret) && !was_used
}

/// Whether its account refers to it, as accounts did to those that were made for them.
fn is_generated(secret: &Secret, view: &View) -> bool {
    let annotation = |key: &str| {
        let annotations = secret.metadata.annotations.as_ref();
        annotations.and_then(|all| all.get(key)).map(String::as_str)
    };
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    let Some(account) = view
        .service_accounts
        .get(namespace, annotation(ACCOUNT).unwrap_or_default())
    else {
        return false;
    };
    let uid = annotation(ACCOUNT_UID).filter(|uid| !uid.is_empty());
    uid.is_none_or(|uid| account.metadata.uid.as_deref() == Some(uid)) && refers(&account, secret)
}

fn refers(account: &ServiceAccount, secret: &Secret) -> bool {
    let mut references = account.secrets.iter().flatten();
    references.any(|reference| reference.name == secret.metadata.name)
}

/// The Secrets that pods use, of the namespaces that were asked for.
#[derive(Default)]
struct UsedByPods(BTreeMap<String, BTreeSet<String>>);

impl UsedByPods {
    fn has(&mut self, secret: &Secret, view: &View) -> bool {
        let (namespace, name) = (secret.metadata.namespace.clone(), secret.metadata.name.as_ref());
        let namespace = namespace.unwrap_or_default();
        let names = self.0.entry(namespace.clone()).or_insert_with(|| {
            let pods = view.pods.list();
            let there = pods
                .iter()
                .filter(|pod| pod.metadata.namespace.as_ref() == Some(&namespace));
            let mut names = BTreeSet::new();
            for pod in there {
                // Serialising a k8s_openapi type into a tree cannot fail: its keys are strings.
                let pod = serde_json::to_value(pod.as_ref()).unwrap_or_default();
                names.extend(references::of(&pod, "secrets").into_iter().map(str::to_owned));
            }
            names
        });
        name.is_some_and(|name| names.contains(name))
    }
}

fn label<'a>(secret: &'a Secret, key: &str) -> Option<&'a String> {
    secret.metadata.labels.as_ref()?.get(key)
}

/// The day that a label says.
fn day(secret: &Secret, key: &str) -> Option<Date> {
    label(secret, key)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use api::tokens::ACCOUNT_TYPE;
    use client::Cache;
    use serde_json::Value;

    use super::*;

    /// Made, and tracked since, more than a year before.
    const NOW: &str = "2026-06-15T12:00:00Z";

    fn secret(labels: Value) -> Value {
        json!({
            "metadata": {
                "namespace": "a", "name": "bot-token", "uid": "u", "resourceVersion": "7", "labels": labels,
                "creationTimestamp": "2025-01-01T00:00:00Z", "annotations": {ACCOUNT: "bot", ACCOUNT_UID: "1"},
            },
            "type": ACCOUNT_TYPE,
        })
    }

    fn account(secrets: Value) -> Value {
        json!({"metadata": {"namespace": "a", "name": "bot", "uid": "1"}, "secrets": secrets})
    }

    fn view(secret: Value, account: Value, since: &str) -> View {
        let map = json!({
            "metadata": {"namespace": TRACKING.0, "name": TRACKING.1}, "data": {"since": since},
        });
        View {
            account_secrets: Cache::fixed([serde_json::from_value(secret).unwrap()]),
            service_accounts: Cache::fixed([serde_json::from_value(account).unwrap()]),
            token_trackings: Cache::fixed([serde_json::from_value(map).unwrap()]),
            ..View::empty()
        }
    }

    fn plan(view: &View) -> Plan {
        let plan = UnusedTokens.reconcile(&key(), view, NOW.parse().unwrap());
        assert_eq!(plan.again, Some(EVERY));
        plan
    }

    fn generated() -> Value {
        account(json!([{"name": "bot-token"}]))
    }

    fn writes(labels: Value) -> Vec<Write> {
        plan(&view(secret(labels), generated(), "2025-01-01")).writes
    }

    #[test]
    fn what_was_not_used_for_a_year_is_marked_and_goes_a_year_later() {
        let marked = writes(json!({}));
        let [Write::Patch(_, _, patch)] = marked.as_slice() else {
            panic!("{marked:?}")
        };
        let wanted = json!({"metadata": {"uid": "u", "labels": {INVALID_SINCE: "2026-06-15"}}});
        assert_eq!(*patch, wanted);
        assert_eq!(writes(json!({LAST_USED: "2025-06-14"})).len(), 1);
        for stays in [
            json!({LAST_USED: "2025-06-15"}),
            json!({LAST_USED: "yesterday"}),
            json!({INVALID_SINCE: "2025-06-15"}),
        ] {
            assert_eq!(writes(stays.clone()), [], "{stays}");
        }
        let gone = writes(json!({INVALID_SINCE: "2025-06-14"}));
        let [Write::Delete { version, uid, .. }] = gone.as_slice() else {
            panic!("{gone:?}")
        };
        assert_eq!((version.as_deref(), uid.as_str()), (Some("7"), "u"));
        assert!(matches!(
            writes(json!({INVALID_SINCE: "?"})).as_slice(),
            [Write::Patch(..)]
        ));
    }

    #[test]
    fn what_is_young_or_was_asked_for_or_is_mounted_stays() {
        let old = || secret(json!({}));
        let mut young = old();
        young["metadata"]["creationTimestamp"] = "2025-06-15T12:00:00Z".into();
        let mut going = old();
        going["metadata"]["deletionTimestamp"] = NOW.into();
        let mut stranger = old();
        stranger["metadata"]["annotations"][ACCOUNT_UID] = "2".into();
        for (what, view) in [
            ("young", view(young, generated(), "2025-01-01")),
            ("going", view(going, generated(), "2025-01-01")),
            ("another account's", view(stranger, generated(), "2025-01-01")),
            ("asked for", view(old(), account(json!([])), "2025-01-01")),
            // A year ends at midnight after the first whole day.
            ("not noted for long", view(old(), generated(), "2025-06-15")),
            ("never noted", view(old(), generated(), "")),
        ] {
            assert_eq!(plan(&view).writes, [], "{what}");
        }
        assert_eq!(plan(&view(old(), generated(), "2025-06-14")).writes.len(), 1);
        let pod = |namespace: &str| {
            json!({
                "metadata": {"namespace": namespace, "name": "p"},
                "spec": {"containers": [], "volumes": [{"name": "v", "secret": {"secretName": "bot-token"}}]},
            })
        };
        for (namespace, expected) in [("a", 0), ("b", 1)] {
            let view = View {
                pods: Cache::fixed([serde_json::from_value(pod(namespace)).unwrap()]),
                ..view(old(), generated(), "2025-01-01")
            };
            assert_eq!(plan(&view).writes.len(), expected, "{namespace}");
        }
    }
}
