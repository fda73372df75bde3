//! `create`: a new object.

use std::sync::Arc;

use api::apply::{self, Versions, Write};
use api::canon;
use api::names;
use api::object;
use api::request::{Reply, Request};
use api::status::Status;
use serde_json::Value;
use store::{Entry, Expect, Op, Outcome, StoreError};

use crate::admission::Operation;
use crate::conversion;

use super::quota::Writing;
use super::target::{Part, Target};
use super::world::review_of;
use super::{Core, body, hooks, meta, refuse, text};

/// Names tried for one `generateName` (apiserver `registry/generic`).
const GENERATED_NAMES_MAX: usize = 8;
/// Allocations tried when others take the same address at the same time.
const ALLOCATIONS_MAX: usize = 16;
/// Random characters of a generated name.
const SUFFIX_LENGTH: usize = 5;

/// How one attempt to write a new object ended without an error.
enum Attempt {
    Done(Value, Option<Arc<Entry>>),
    NameTaken(String),
    AddressTaken,
}

impl Core {
    /// Adds the object in the request's body.
    pub(super) async fn create(&self, request: &Request) -> Result<Reply, Status> {
        let target = self.target(request)?;
        if target.kind.custom().is_some_and(|custom| custom.is_terminating()) {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::new(405, "MethodNotAllowed", why));
        }
        let (new, warnings) = body::object(request, target.schema()?, &target.gvk())?;
        let mut reply = self.create_object(&target, request, new, true).await?;
        reply.warnings = warnings;
        Ok(reply)
    }

    /// Adds a decoded object; `managed` says that its managed fields are still to be made.
    pub(super) async fn create_object(
        &self,
        target: &Target,
        request: &Request,
        mut new: Value,
        managed: bool,
    ) -> Result<Reply, Status> {
        let version = object::resource_version(&new);
        if !version.is_empty() && version != "0" && request.verb == api::request::Verb::Create {
            return Err(Status::new(
                500,
                "",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        meta::settle_namespace(target, &mut new)?;
        target.kind.fill(&mut new);
        canon::canonicalize(&mut new, target.schema()?);
        if managed {
            meta::single_owners(&mut new, &request.notes, meta::DUPLICATE_OWNERS);
            let write = self.write_of(target, request, Part::Whole, &*self.inner.kinds)?;
            new = apply::update_managed_fields(None, new, &write);
        }
        let mut review = review_of(request, &target.kind, Operation::Create, Some(&mut new), None);
        self.admit(&mut review).await?;
        meta::single_owners(&mut new, &request.notes, meta::ADMITTED_DUPLICATE_OWNERS);
        meta::settle_namespace(target, &mut new)?;
        let prefixed = !object::get_str(&new, &["metadata", "generateName"]).is_empty();
        let generated = object::name(&new).is_empty();
        let mut names_left = if generated { GENERATED_NAMES_MAX } else { 1 };
        let mut allocations_left = if hooks::allocates(target) {
            ALLOCATIONS_MAX
        } else {
            1
        };
        loop {
            // Most objects have one chance, and are not copied for a second one.
            let again = (names_left > 1 || allocations_left > 1).then(|| new.clone());
            match self.attempt(target, request, new).await? {
                Attempt::Done(value, entry) => return self.created(target, value, entry).await,
                Attempt::NameTaken(name) => {
                    names_left -= 1;
                    if names_left == 0 {
                        return Err(taken(target, prefixed, &name));
                    }
                }
                Attempt::AddressTaken => {
                    allocations_left -= 1;
                    if allocations_left == 0 {
                        return Err(Status::internal("no free address or port was found"));
                    }
                }
            }
            new = again.unwrap_or_default();
        }
    }

    async fn attempt(&self, target: &Target, request: &Request, mut new: Value) -> Result<Attempt, Status> {
        let config = &self.inner.config;
        let prefix = object::get_str(&new, &["metadata", "generateName"]);
        if object::name(&new).is_empty() && !prefix.is_empty() {
            let name = names::generate(prefix, &config.random.suffix(SUFFIX_LENGTH));
            object::set(&mut new, &["metadata", "name"], name);
        }
        // Born first: a Job without a selector is given one by its UID.
        meta::born(&mut new, &*config.random, config.clock.now());
        target.kind.prepare_create(&mut new);
        let others = hooks::before_create(self, target, request, &mut new).await?;
        let found = target.kind.check_create(&new);
        request.notes.warn_all(found.warnings);
        if !found.errors.is_empty() {
            return Err(Status::invalid(
                target.kind.group,
                target.kind.kind,
                object::name(&new),
                &found.errors,
            ));
        }
        canon::canonicalize(&mut new, target.schema()?);
        let review = review_of(request, &target.kind, Operation::Create, Some(&mut new), None);
        self.admit_finally(&review).await?;
        let name = object::name(&new).to_owned();
        let key = target.key(&name);
        let writing = Writing {
            target,
            request,
            new: &new,
            old: None,
        };
        if request.options.dry_run {
            self.charges(writing)?;
            let exists = self
                .inner
                .store
                .get(&key)
                .await
                .map_err(refuse::status)?
                .is_some();
            return Ok(if exists {
                Attempt::NameTaken(name)
            } else {
                Attempt::Done(new, None)
            });
        }
        let record = self.stored_record(target, &new).await?;
        let mut ops = vec![Op::Put {
            key,
            record,
            expect: Expect::Absent,
        }];
        ops.extend(others);
        match self.commit_counted(writing, ops).await? {
            Ok(outcomes) => Ok(Attempt::Done(new, written(outcomes))),
            Err(StoreError::Precondition { index: 0, .. }) => Ok(Attempt::NameTaken(name)),
            Err(StoreError::Precondition { .. }) => Ok(Attempt::AddressTaken),
            Err(error) => Err(refuse::status(error)),
        }
    }

    /// An object as the store keeps it.
    pub(super) fn record(&self, target: &Target, value: &Value) -> Result<store::Record, Status> {
        let ttl = (target.stored.kind == "Event").then_some(self.inner.config.event_ttl_seconds);
        match target.kind.storage {
            None => text::record(&target.stored, &target.stored_version, value, ttl),
            Some(storage) => {
                let mut value = value.clone();
                (storage.to_stored)(&mut value);
                text::record(&target.stored, &target.stored_version, &value, ttl)
            }
        }
    }

    /// The same, in the stored version, for which somebody else may have to be asked.
    pub(super) async fn stored_record(
        &self,
        target: &Target,
        value: &Value,
    ) -> Result<store::Record, Status> {
        if !conversion::by_webhook(&target.kind) {
            return self.record(target, value);
        }
        let stored = self.to_stored(target, value.clone()).await?;
        self.record(target, &stored)
    }

    async fn created(
        &self,
        target: &Target,
        value: Value,
        entry: Option<Arc<Entry>>,
    ) -> Result<Reply, Status> {
        let body = match entry {
            Some(entry) => self.served(&entry.text, &target.kind).await?.into(),
            None => value.to_string().into(),
        };
        Ok(Reply {
            code: 201,
            body,
            warnings: Vec::new(),
        })
    }

    /// Who writes what, for managed fields.
    pub(super) fn write_of<'a>(
        &'a self,
        target: &'a Target,
        request: &'a Request,
        part: Part,
        versions: &'a dyn Versions,
    ) -> Result<Write<'a>, Status> {
        let manager = request.options.field_manager.as_str();
        Ok(Write {
            manager: if manager.is_empty() { "unknown" } else { manager },
            api_version: &target.api_version,
            subresource: &request.subresource,
            now: self.inner.config.clock.now(),
            schema: target.schema()?,
            reset: match part {
                Part::Whole => target.kind.reset_fields,
                Part::View(view) => view.reset_fields,
                Part::Scale => &[],
            },
            versions,
        })
    }
}

/// The entry that the first operation of a commit wrote.
pub(super) fn written(outcomes: Vec<Outcome>) -> Option<Arc<Entry>> {
    match outcomes.into_iter().next() {
        Some(Outcome::Put(entry) | Outcome::Deleted(entry)) => Some(entry),
        _ => None,
    }
}

/// 409 for a name; `prefixed` says that one can be made from a prefix.
fn taken(target: &Target, prefixed: bool, name: &str) -> Status {
    let mut status = Status::already_exists(target.kind.group, target.kind.plural, name);
    if prefixed {
        status
            .message
            .push_str(", the server was not able to generate a unique name for the object");
        refuse::retry_after(&mut status, 1);
    }
    status
}
