//! What becomes of an object that is deleted. Pure.

use api::kind::{Dependents, Kind};
use api::object;
use api::request::Options;
use api::value;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::registry::meta;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

/// What a deletion comes to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fate {
    /// It is on its way already: nothing to write.
    Pending,
    /// It stays for now, marked like this.
    Marked(Value),
    /// It goes.
    Gone,
}

/// Decides what becomes of an object. Pure.
pub(super) fn decide(kind: &Kind, live: &Value, options: &Options, now: Timestamp) -> Fate {
    let mut marked = live.clone();
    if !kind.deletion_finalizer.is_empty() && !object::is_deleting(live) {
        object::add_finalizer(&mut marked, kind.deletion_finalizer);
    }
    let waits = set_finalizers(&mut marked, policy(kind, live, &options.propagation_policy));
    if kind.kind == "Namespace" && kind.group.is_empty() {
        return namespace(live, marked, waits, now);
    }
    let grace = (kind.graceful_delete)(live, options.grace_period_seconds);
    let deleting = object::is_deleting(live);
    if let (true, Some(seconds)) = (deleting, grace) {
        return hasten(live, marked, options.grace_period_seconds, seconds);
    }
    match grace {
        Some(seconds) if seconds > 0 => {
            meta::mark_deleted(&mut marked, later(now, seconds), seconds);
            Fate::Marked(marked)
        }
        _ if !waits => Fate::Gone,
        _ => {
            // Finalizers keep it, but its own grace is over: whoever takes the last one away removes it.
            let pending = object::get_i64(live, &["metadata", "deletionGracePeriodSeconds"]);
            if !deleting || pending.is_some_and(|left| left > 0) {
                meta::mark_deleted(&mut marked, now, 0);
            }
            if marked == *live {
                Fate::Pending
            } else {
                Fate::Marked(marked)
            }
        }
    }
}

/// What becomes of an object's dependents: what the deletion says of them, else what an earlier one said by a finalizer,
/// else what is usual for the kind.
fn policy<'p>(kind: &Kind, live: &Value, asked: &'p str) -> &'p str {
    let told = || {
        [ORPHAN, FOREGROUND]
            .iter()
            .any(|finalizer| object::has_finalizer(live, finalizer))
    };
    match kind.dependents {
        Dependents::Unknown => "Background",
        Dependents::Kept(_) if asked.is_empty() && !told() => "Orphan",
        _ => asked,
    }
}

/// The warning of a kind whose dependents stay, if the deletion does not say that they are to.
pub(super) fn warnings(kind: &Kind, options: &Options) -> Vec<String> {
    match kind.dependents {
        Dependents::Kept(text) if options.propagation_policy.is_empty() && !text.is_empty() => {
            vec![text.to_owned()]
        }
        _ => Vec::new(),
    }
}

/// An object that ends gracefully was told to end before: it may only be told to hurry.
fn hasten(live: &Value, mut marked: Value, asked: Option<i64>, seconds: i64) -> Fate {
    let before = object::get_i64(live, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    let waits = !object::finalizers(&marked).is_empty();
    let seconds = if asked.is_some() || seconds == 0 {
        seconds.min(before)
    } else {
        before
    };
    if seconds == 0 && !waits {
        return Fate::Gone;
    }
    if seconds >= before {
        return Fate::Pending;
    }
    let ends: Option<Timestamp> = object::deletion_timestamp(live).and_then(|t| t.parse().ok());
    if let Some(ends) = ends {
        meta::mark_deleted(&mut marked, later(ends, seconds - before), seconds);
    }
    Fate::Marked(marked)
}

/// A namespace stays until its contents are gone (`spec.finalizers`).
fn namespace(live: &Value, mut marked: Value, waits: bool, now: Timestamp) -> Fate {
    let contents = !value::list(live, "spec.finalizers").is_empty();
    if !contents && !waits {
        return Fate::Gone;
    }
    if object::is_deleting(live) {
        return Fate::Pending;
    }
    object::set(
        &mut marked,
        &["metadata", "deletionTimestamp"],
        object::time_text(now),
    );
    object::set(&mut marked, &["status", "phase"], "Terminating");
    Fate::Marked(marked)
}

fn later(at: Timestamp, seconds: i64) -> Timestamp {
    at.checked_add(SignedDuration::from_secs(seconds))
        .unwrap_or(Timestamp::MAX)
}

/// Puts the finalizers that the propagation policy asks for; true if any keep the object here.
fn set_finalizers(object: &mut Value, policy: &str) -> bool {
    match policy {
        "Orphan" => {
            object::remove_finalizer(object, FOREGROUND);
            object::add_finalizer(object, ORPHAN);
        }
        "Foreground" => {
            object::remove_finalizer(object, ORPHAN);
            object::add_finalizer(object, FOREGROUND);
        }
        "Background" => {
            object::remove_finalizer(object, ORPHAN);
            object::remove_finalizer(object, FOREGROUND);
        }
        _ => {}
    }
    !object::finalizers(object).is_empty()
}

/// Whether a change took away the last thing that kept a deleted object here.
pub(in crate::registry) fn goes_with_change(kind: &Kind, new: &Value, live: &Value) -> bool {
    let grace = object::get_i64(live, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    let contents = kind.kind == "Namespace" && !value::list(new, "spec.finalizers").is_empty();
    object::is_deleting(live) && grace == 0 && object::finalizers(new).is_empty() && !contents
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(plural: &str) -> &'static Kind {
        api::kinds::find("", "v1", plural).unwrap()
    }

    fn asked(policy: &str, grace: Option<i64>) -> Options {
        Options {
            propagation_policy: policy.into(),
            grace_period_seconds: grace,
            ..Options::default()
        }
    }

    #[test]
    fn finalizers_keep_an_object() {
        let now = Timestamp::UNIX_EPOCH;
        let live = json!({"metadata": {"name": "a"}});
        assert_eq!(
            decide(kind("configmaps"), &live, &asked("", None), now),
            Fate::Gone
        );
        let Fate::Marked(marked) = decide(kind("configmaps"), &live, &asked("Foreground", None), now) else {
            panic!("gone")
        };
        assert_eq!(marked["metadata"]["finalizers"], json!([FOREGROUND]));
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(
            decide(kind("configmaps"), &marked, &asked("", None), now),
            Fate::Pending
        );
        let Fate::Gone = decide(kind("configmaps"), &marked, &asked("Background", None), now) else {
            panic!("kept")
        };
        let mut done = marked.clone();
        object::remove_finalizer(&mut done, FOREGROUND);
        assert!(goes_with_change(kind("configmaps"), &done, &marked));
        assert!(!goes_with_change(kind("configmaps"), &done, &live));
    }

    #[test]
    fn dependents_fare_as_is_usual_for_the_kind() {
        let now = Timestamp::UNIX_EPOCH;
        let live = json!({"metadata": {"name": "a"}});
        let finalizers = |plural: &str, live: &Value, policy: &str| match decide(
            kind(plural),
            live,
            &asked(policy, None),
            now,
        ) {
            Fate::Marked(marked) => marked["metadata"]["finalizers"].clone(),
            Fate::Gone => Value::Null,
            Fate::Pending => panic!("nothing was written"),
        };
        assert_eq!(finalizers("replicationcontrollers", &live, ""), json!([ORPHAN]));
        assert_eq!(
            finalizers("replicationcontrollers", &live, "Background"),
            Value::Null
        );
        // What an earlier deletion said holds.
        let told = json!({"metadata": {"name": "a", "finalizers": [FOREGROUND]}});
        assert_eq!(
            finalizers("replicationcontrollers", &told, ""),
            json!([FOREGROUND])
        );
        for policy in ["", "Foreground", "Orphan"] {
            assert_eq!(finalizers("events", &live, policy), Value::Null);
        }
        let job = api::kinds::find("batch", "v1", "jobs").unwrap();
        assert!(warnings(job, &asked("", None))[0].starts_with("child pods are preserved by default"));
        assert!(warnings(job, &asked("Orphan", None)).is_empty());
        assert!(warnings(kind("replicationcontrollers"), &asked("", None)).is_empty());
    }

    #[test]
    fn a_namespace_waits_for_its_contents() {
        let now = Timestamp::UNIX_EPOCH;
        let live = json!({"metadata": {"name": "a"}, "spec": {"finalizers": ["kubernetes"]}});
        let Fate::Marked(marked) = decide(kind("namespaces"), &live, &asked("", None), now) else {
            panic!("gone")
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
        assert_eq!(
            decide(kind("namespaces"), &marked, &asked("", None), now),
            Fate::Pending
        );
        let mut done = marked.clone();
        done["spec"] = json!({});
        assert!(goes_with_change(kind("namespaces"), &done, &marked));
        assert_eq!(
            decide(kind("namespaces"), &done, &asked("", None), now),
            Fate::Gone
        );
    }

    #[test]
    fn a_graceful_end_can_only_be_hastened() {
        let now = Timestamp::UNIX_EPOCH;
        let live = json!({"metadata": {"name": "a"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 30}});
        let mut told = live.clone();
        meta::mark_deleted(&mut told, later(now, 30), 30);
        assert_eq!(hasten(&told, told.clone(), None, 30), Fate::Pending);
        assert_eq!(hasten(&told, told.clone(), Some(0), 0), Fate::Gone);
        let Fate::Marked(sooner) = hasten(&told, told.clone(), Some(10), 10) else {
            panic!("not marked")
        };
        assert_eq!(sooner["metadata"]["deletionTimestamp"], "1970-01-01T00:00:10Z");
        assert!(!goes_with_change(kind("pods"), &told, &told));
    }
}
