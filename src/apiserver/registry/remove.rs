//! `delete` and `deletecollection`: an object goes, at once or when what it waits for is done.

use std::sync::Arc;

use api::kind::{Dependents, Kind};
use api::object;
use api::request::{Options, Reply, Request};
use api::status::Status;
use api::text::Text;
use api::value;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use store::{Entry, Expect, Op, StoreError};

use crate::admission::Operation;
use crate::conversion;

use super::create::written;
use super::list_text::{Items, ListText};
use super::target::Target;
use super::world::review_of;
use super::{Core, body, hooks, meta, refuse, text};

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
/// How often a deletion is tried again that lost a race.
const TRIES_MAX: usize = 24;

/// What a deletion comes to.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    /// It is on its way already: nothing to write.
    Pending,
    /// It stays for now, marked like this.
    Marked(Value),
    /// It goes.
    Gone,
}

/// Decides what becomes of an object. Pure.
fn decide(kind: &Kind, live: &Value, options: &Options, now: Timestamp) -> Fate {
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
fn warnings(kind: &Kind, options: &Options) -> Vec<String> {
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
pub(super) fn goes_with_change(kind: &Kind, new: &Value, live: &Value) -> bool {
    let grace = object::get_i64(live, &["metadata", "deletionGracePeriodSeconds"]).unwrap_or(0);
    let contents = kind.kind == "Namespace" && !value::list(new, "spec.finalizers").is_empty();
    object::is_deleting(live) && grace == 0 && object::finalizers(new).is_empty() && !contents
}

/// What a deletion answers: the object, or that it is gone.
pub(super) struct Removed {
    body: Bytes,
}

impl Core {
    /// Deletes one object.
    pub(super) async fn delete(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        let options = body::delete_options(request)?;
        let removed = self.remove(&target, request, &options).await?;
        Ok(Reply {
            code: 200,
            body: removed.body.into(),
            warnings: warnings(&target.kind, &options),
        })
    }

    /// Deletes one object with options that were read already.
    pub(super) async fn remove(
        &self,
        target: &Target,
        request: &Request,
        options: &Options,
    ) -> Result<Removed, Status> {
        for _ in 0..TRIES_MAX {
            let entry = self.entry(target).await?.ok_or_else(|| target.not_found())?;
            if let Some(removed) = self.attempt_remove(target, request, options, &entry).await? {
                return Ok(removed);
            }
        }
        Err(target.stale())
    }

    async fn attempt_remove(
        &self,
        target: &Target,
        request: &Request,
        options: &Options,
        entry: &Arc<Entry>,
    ) -> Result<Option<Removed>, Status> {
        let live = text::parse(entry)?;
        preconditions(target, options, &live)?;
        let shown = match target.kind.storage.is_some() || target.kind.custom().is_some() {
            true => Some(self.to_served(live.clone(), &target.kind).await?),
            false => None,
        };
        let old = shown.as_ref().unwrap_or(&live);
        let mut review = review_of(request, &target.kind, Operation::Delete, None, Some(old));
        review.name = &target.name;
        self.admit_at_once(&mut review).await?;
        let fate = decide(&target.stored, &live, options, self.inner.config.clock.now());
        if options.dry_run {
            return self.answer(target, &fate, entry, None).await.map(Some);
        }
        let ops = match &fate {
            Fate::Pending => return self.answer(target, &fate, entry, None).await.map(Some),
            Fate::Gone => hooks::removal(entry, &live),
            Fate::Marked(value) => {
                // Marked as it is stored, whichever version that was at the time.
                let version = match conversion::by_webhook(&target.kind) {
                    true => object::api_version(value),
                    false => &target.stored_version,
                };
                let record = text::record(&target.stored, version, value, None)?;
                vec![Op::Put {
                    key: entry.key.clone(),
                    record,
                    expect: Expect::Revision(entry.revision),
                }]
            }
        };
        match self.inner.store.commit(ops).await {
            Ok(outcomes) => self
                .answer(target, &fate, entry, written(outcomes))
                .await
                .map(Some),
            Err(StoreError::Precondition { .. }) => Ok(None),
            Err(error) => Err(refuse::status(error)),
        }
    }

    /// Deletes every object that a list with the same options would show.
    pub(super) async fn delete_collection(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        let options = body::delete_options(request)?;
        let page = self.page(&target, request).await?;
        let mut items = Vec::new();
        for entry in &page.entries {
            let name = entry.key.rsplit('/').next().unwrap_or_default().to_owned();
            let one = Target::new(target.kind.clone(), target.namespace.clone(), name)?;
            match self.remove(&one, request, &options).await {
                Ok(_) => items.push(self.served(&entry.text, &target.kind).await?),
                Err(status) if status.is_not_found() => {}
                Err(status) => return Err(status),
            }
        }
        let list = ListText {
            head: page.head(&target.kind).into_bytes(),
            items: Items::Shown(items),
        };
        Ok(Reply {
            code: 200,
            body: Text::of_pieces(list),
            warnings: warnings(&target.kind, &options),
        })
    }
}

impl Core {
    async fn answer(
        &self,
        target: &Target,
        fate: &Fate,
        before: &Entry,
        after: Option<Arc<Entry>>,
    ) -> Result<Removed, Status> {
        let kind = &target.kind;
        if *fate == Fate::Gone && !kind.returns_deleted {
            let mut details = json!({ "name": target.name, "kind": kind.plural, "uid": before.header.uid });
            if !kind.group.is_empty() {
                details["group"] = kind.group.into();
            }
            return Ok(Removed {
                body: success(Some(details)),
            });
        }
        let text = match (&after, fate) {
            (Some(entry), _) => &entry.text,
            (None, Fate::Marked(value)) => &Bytes::from(value.to_string()),
            (None, _) => &before.text,
        };
        Ok(Removed {
            body: self.served(text, kind).await?,
        })
    }
}

fn preconditions(target: &Target, options: &Options, live: &Value) -> Result<(), Status> {
    let failed = |what: &str, asked: &str, have: &str, since: &str| {
        // Kubernetes names the kind here, and not the resource.
        let why = format!(
            "the {what} in the precondition ({asked}) does not match the {what} in record ({have}). The object \
             might have been {since}"
        );
        Status::conflict(target.kind.group, target.kind.kind, &target.name, &why)
    };
    if let Some(uid) = options
        .precondition_uid
        .as_deref()
        .filter(|uid| *uid != object::uid(live))
    {
        return Err(failed(
            "UID",
            uid,
            object::uid(live),
            "deleted and then recreated",
        ));
    }
    let version = options.precondition_resource_version.as_deref();
    if let Some(version) = version.filter(|version| *version != object::resource_version(live)) {
        let have = object::resource_version(live);
        return Err(failed("ResourceVersion", version, have, "modified"));
    }
    Ok(())
}

/// A `Status` that says that something was done.
pub(super) fn success(details: Option<Value>) -> Bytes {
    let mut status = json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success" });
    if let Some(details) = details {
        status["details"] = details;
    }
    status.to_string().into()
}

#[cfg(test)]
mod tests {
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
