//! `delete` and `deletecollection`: an object goes, at once or when what it waits for is done.

use std::sync::Arc;

use api::object;
use api::request::{Options, Reply, Request};
use api::status::Status;
use api::text::Text;
use bytes::Bytes;
use serde_json::{Value, json};
use store::{Entry, Expect, Op, StoreError};

use crate::admission::Operation;
use crate::conversion;

use super::create::written;
use super::list_text::{Items, ListText};
use super::target::Target;
use super::world::review_of;
use super::{Core, body, hooks, refuse, text};

mod fate;

pub(super) use fate::goes_with_change;
use fate::{Fate, decide, warnings};

/// How often a deletion is tried again that lost a race.
const TRIES_MAX: usize = 24;

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
