//! `update` and `patch`: an object, or a part of it, becomes another.

use std::sync::Arc;

use api::apply;
use api::canon;
use api::decode::{self, FieldValidation};
use api::kinds;
use api::object;
use api::patch;
use api::request::{PatchType, Reply, Request, Verb};
use api::schema::{Gvk, SchemaRef, Schemas};
use api::status::{FieldError, Status};
use serde_json::Value;
use store::{Entry, Expect, Op, StoreError};

use crate::admission::Operation;
use crate::authz::Attributes;
use crate::written::AskedForms;

use super::create::written;
use super::quota::Writing;
use super::target::{Part, Target};
use super::world::review_of;
use super::{Core, body, hooks, meta, refuse, remove, scale, text};

/// How often a change is tried again that lost a race nobody asked it to win.
const TRIES_MAX: usize = 24;

/// What the caller wants the object to become.
enum Wanted {
    /// This.
    Whole(Value),
    /// What a patch makes of it.
    Patched(PatchType, Value),
}

/// A change, decoded.
struct Change<'a> {
    target: Target,
    part: Part,
    request: &'a Request,
    /// Schema and name of the form in which the part is shown: the kind's own, or Scale's.
    schema: SchemaRef,
    gvk: Gvk,
    wanted: Wanted,
}

/// What one attempt came to.
enum Attempt {
    Done(Reply),
    LostRace,
}

impl Core {
    /// Replaces or patches an object or a part of it.
    pub(super) async fn change(&self, request: &Request) -> Result<Reply, Status> {
        let (change, mut warnings) = Change::decode(self, request)?;
        for _ in 0..TRIES_MAX {
            let entry = self.entry(&change.target).await?;
            let attempt = match entry {
                Some(entry) => self.attempt_change(&change, &entry, &mut warnings).await?,
                None => Attempt::Done(self.create_by_change(&change).await?),
            };
            if let Attempt::Done(mut reply) = attempt {
                warnings.dedup();
                reply.warnings.append(&mut warnings);
                return Ok(reply);
            }
        }
        Err(change.target.stale())
    }

    async fn create_by_change(&self, change: &Change<'_>) -> Result<Reply, Status> {
        let Change {
            target,
            part,
            request,
            ..
        } = change;
        if !part.is_whole() {
            return Err(target.not_found());
        }
        match &change.wanted {
            Wanted::Whole(new) if target.kind.create_on_update => {
                self.may_create(request).await?;
                let mut new = new.clone();
                meta::settle_name(target, &mut new)?;
                self.create_object(target, request, new, true).await
            }
            Wanted::Patched(PatchType::Apply, applied) => {
                self.may_create(request).await?;
                let mut applied = applied.clone();
                meta::settle_name(target, &mut applied)?;
                meta::settle_namespace(target, &mut applied)?;
                if !object::uid(&applied).is_empty() {
                    return Err(target.conflict(&format!(
                        "uid mismatch: the provided object specified uid {}, and no existing object was found",
                        object::uid(&applied)
                    )));
                }
                let write = self.write_of(target, request, Part::Whole, &*self.inner.kinds)?;
                let new = apply::apply(None, applied, &write, request.options.force)?;
                self.create_object(target, request, new, false).await
            }
            _ => Err(target.not_found()),
        }
    }

    /// Refuses who may change such an object, but not create it.
    async fn may_create(&self, request: &Request) -> Result<(), Status> {
        let asked = Attributes {
            verb: Verb::Create.name().to_owned(),
            ..Attributes::of(request)
        };
        self.inner.authorizer.authorize(&asked).await
    }

    async fn attempt_change(
        &self,
        change: &Change<'_>,
        entry: &Arc<Entry>,
        warnings: &mut Vec<String>,
    ) -> Result<Attempt, Status> {
        let Change {
            target,
            part,
            request,
            ..
        } = change;
        let mut live = self.to_served(text::parse(entry)?, &target.kind).await?;
        if target.kind.storage.is_some() {
            // What is compared must be in the one form.
            canon::canonicalize(&mut live, target.schema()?);
        }
        let mut new = self.submitted(change, &live, warnings).await?;
        meta::settle_name(target, &mut new)?;
        meta::settle_namespace(target, &mut new)?;
        let exact = preconditions(change, &new, &live)?;
        meta::inherit(&mut new, &live);
        let mut review = review_of(
            request,
            &target.kind,
            Operation::Update,
            Some(&mut new),
            Some(&live),
        );
        self.admit(&mut review).await?;
        meta::single_owners(&mut new, &request.notes, meta::ADMITTED_DUPLICATE_OWNERS);
        meta::inherit(&mut new, &live);
        part.prepare(&target.kind, &mut new, &live);
        let others = hooks::before_update(self, target, *part, request, &mut new, &live).await?;
        let found = part.check(&target.kind, &new, &live);
        request.notes.warn_all(found.warnings);
        if !found.errors.is_empty() {
            return Err(Status::invalid(
                target.kind.group,
                target.kind.kind,
                &target.name,
                &found.errors,
            ));
        }
        canon::canonicalize(&mut new, target.schema()?);
        let review = review_of(
            request,
            &target.kind,
            Operation::Update,
            Some(&mut new),
            Some(&live),
        );
        self.admit_finally(&review).await?;
        let writing = Writing {
            target,
            request,
            new: &new,
            old: Some(&live),
        };
        let attempt = if remove::goes_with_change(&target.kind, &new, &live) {
            self.remove_changed(change, entry, &new).await?
        } else if self.is_settled(&entry.key, &new, &live) || request.options.dry_run {
            self.charges(writing)?;
            let seen = if request.options.dry_run { &new } else { &live };
            Some(change.reply(seen)?)
        } else {
            self.write_change(change, entry, writing, others).await?
        };
        match attempt {
            Some(reply) => Ok(Attempt::Done(reply)),
            None if exact => Err(target.stale()),
            None => Ok(Attempt::LostRace),
        }
    }

    /// The whole object as the caller wants it, managed fields included.
    async fn submitted(
        &self,
        change: &Change<'_>,
        live: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let must = matches!(change.wanted, Wanted::Patched(PatchType::Apply, _));
        let compute = |forms: &AskedForms<'_>| {
            let mut warnings = Vec::new();
            let new = self.submitted_as(change, live, &mut warnings, forms)?;
            Ok((new, warnings))
        };
        let (new, more) = self.with_forms(must, compute).await?;
        warnings.extend(more);
        Ok(new)
    }

    fn submitted_as(
        &self,
        change: &Change<'_>,
        live: &Value,
        warnings: &mut Vec<String>,
        forms: &AskedForms<'_>,
    ) -> Result<Value, Status> {
        let Change {
            target,
            part,
            request,
            ..
        } = change;
        let write = self.write_of(target, request, *part, forms)?;
        if let Wanted::Patched(PatchType::Apply, applied) = &change.wanted {
            let mut applied = if part.is_scale() {
                scale::applied(&target.kind, applied)
            } else {
                applied.clone()
            };
            meta::settle_name(target, &mut applied)?;
            meta::settle_namespace(target, &mut applied)?;
            let mut new = apply::apply(Some(live), applied, &write, request.options.force)?;
            target.kind.fill(&mut new);
            canon::canonicalize(&mut new, target.schema()?);
            return Ok(new);
        }
        let mut new = match &change.wanted {
            Wanted::Whole(new) => new.clone(),
            Wanted::Patched(how, patch) if part.is_scale() => {
                change.patched(*how, scale::view(&target.kind, live)?, patch, warnings)?
            }
            Wanted::Patched(how, patch) => change.patched(*how, live.clone(), patch, warnings)?,
        };
        if part.is_scale() {
            let (uid, version) = (
                object::uid(&new).to_owned(),
                object::resource_version(&new).to_owned(),
            );
            new = scale::merge(&target.kind, live, &new);
            object::set(&mut new, &["metadata", "uid"], uid);
            object::set(&mut new, &["metadata", "resourceVersion"], version);
        }
        target.kind.fill(&mut new);
        canon::canonicalize(&mut new, target.schema()?);
        if matches!(change.wanted, Wanted::Whole(_)) {
            meta::single_owners(&mut new, &request.notes, meta::DUPLICATE_OWNERS);
        }
        Ok(apply::update_managed_fields(Some(live), new, &write))
    }

    /// Whether nothing is to be written: nothing changes, and it is kept as it should be.
    fn is_settled(&self, key: &str, new: &Value, live: &Value) -> bool {
        meta::unchanged(new, live) && !self.inner.store.is_stale(key)
    }

    async fn write_change(
        &self,
        change: &Change<'_>,
        entry: &Entry,
        writing: Writing<'_>,
        others: Vec<Op>,
    ) -> Result<Option<Reply>, Status> {
        let record = self.stored_record(&change.target, writing.new).await?;
        let mut ops = vec![Op::Put {
            key: entry.key.clone(),
            record,
            expect: Expect::Revision(entry.revision),
        }];
        ops.extend(others);
        match self.commit_counted(writing, ops).await? {
            Ok(outcomes) => match written(outcomes) {
                Some(entry) => self.changed(change, &entry).await.map(Some),
                None => Ok(None),
            },
            Err(StoreError::Precondition { .. }) => Ok(None),
            Err(error) => Err(refuse::status(error)),
        }
    }

    async fn changed(&self, change: &Change<'_>, entry: &Entry) -> Result<Reply, Status> {
        let kind = &change.target.kind;
        if change.part.is_scale() {
            return change.reply(&self.to_served(text::parse(entry)?, kind).await?);
        }
        Ok(Reply {
            code: 200,
            body: self.served(&entry.text, kind).await?.into(),
            warnings: Vec::new(),
        })
    }

    /// The change took the last thing away that kept a deleted object here.
    async fn remove_changed(
        &self,
        change: &Change<'_>,
        entry: &Entry,
        new: &Value,
    ) -> Result<Option<Reply>, Status> {
        if !change.request.options.dry_run {
            match self.inner.store.commit(hooks::removal(entry, new)).await {
                Ok(_) => {}
                Err(StoreError::Precondition { .. }) => return Ok(None),
                Err(error) => return Err(refuse::status(error)),
            }
        }
        change.reply(new).map(Some)
    }
}

impl<'a> Change<'a> {
    fn decode(core: &Core, request: &'a Request) -> Result<(Self, Vec<String>), Status> {
        let target = core.target(request)?;
        let part = target.part(request)?;
        let (schema, gvk) = shown_as(&target, part)?;
        body::manager(request)?;
        let validation = FieldValidation::parse(&request.options.field_validation)?;
        let (wanted, warnings) = match request.verb {
            Verb::Patch(how) => {
                let apply = how == PatchType::Apply;
                if apply {
                    appliable(request)?;
                }
                if how == PatchType::Strategic && target.kind.custom().is_some() {
                    return Err(refuse::no_strategic_merge());
                }
                let (patch, warnings) = match apply {
                    // What becomes of a scale is no longer a scale when it is applied.
                    true if part.is_scale() => {
                        decode::decode(&request.body, "application/yaml", &schema, validation, &gvk)?
                    }
                    true => decode::decode_applied(&request.body, &schema, validation, &gvk)?,
                    false => decode::decode_patch(&request.body, validation)?,
                };
                (Wanted::Patched(how, patch), warnings)
            }
            _ => {
                let (new, warnings) = body::object(request, &schema, &gvk)?;
                (Wanted::Whole(new), warnings)
            }
        };
        if let Wanted::Patched(PatchType::Apply, applied) = &wanted
            && !object::get_list(applied, &["metadata", "managedFields"]).is_empty()
        {
            return Err(Status::bad_request("metadata.managedFields must be nil"));
        }
        Ok((
            Self {
                target,
                part,
                request,
                schema,
                gvk,
                wanted,
            },
            warnings,
        ))
    }

    /// What a patch makes of the part, every field of it known and well typed.
    fn patched(
        &self,
        how: PatchType,
        view: Value,
        patch: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<Value, Status> {
        let patched = match how {
            PatchType::Json => patch::json_patch(view, patch)?,
            PatchType::Merge => patch::merge_patch(view, patch.clone()),
            PatchType::Strategic => patch::strategic_merge(view, patch.clone(), &self.schema)?,
            PatchType::Apply => view,
        };
        let validation = FieldValidation::parse(&self.request.options.field_validation)?;
        let (new, more) = decode::decode_patched(&patched.to_string(), &self.schema, validation, &self.gvk)?;
        warnings.extend(more);
        Ok(new)
    }

    fn reply(&self, object: &Value) -> Result<Reply, Status> {
        let body = if self.part.is_scale() {
            scale::view(&self.target.kind, object)?.to_string()
        } else {
            object.to_string()
        };
        Ok(Reply {
            code: 200,
            body: body.into(),
            warnings: Vec::new(),
        })
    }
}

/// Schema and kind of the form in which a part is shown.
fn shown_as(target: &Target, part: Part) -> Result<(SchemaRef, Gvk), Status> {
    if !part.is_scale() {
        return Ok((target.schema()?.clone(), target.gvk()));
    }
    let kind = kinds::find_kind("autoscaling", "v1", "Scale");
    let schema = kind.and_then(|k| Schemas::builtin().for_kind(k.group, k.version, k.kind));
    let schema = schema.ok_or_else(|| Status::internal("no schema for Scale"))?;
    Ok((schema, Gvk::new("autoscaling", "v1", "Scale")))
}

/// Applying needs a manager to whom the fields will belong.
fn appliable(request: &Request) -> Result<(), Status> {
    if !request.options.field_manager.is_empty() {
        return Ok(());
    }
    let error = FieldError::required("fieldManager", "is required for apply patch");
    Err(Status::invalid("meta.k8s.io", "PatchOptions", "", &[error]))
}

/// Checks the UID and resource version that the caller has seen; true if it named a version.
fn preconditions(change: &Change<'_>, new: &Value, live: &Value) -> Result<bool, Status> {
    let target = &change.target;
    let (uid, version) = (object::uid(new), object::resource_version(new));
    if !uid.is_empty() && uid != object::uid(live) {
        return Err(target.conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            object::uid(live)
        )));
    }
    let current = object::resource_version(live);
    if !version.is_empty() && version != "0" && version != current {
        return Err(target.stale());
    }
    match &change.wanted {
        Wanted::Whole(_) if version.is_empty() || version == "0" => {
            if target.kind.unconditional_update || change.part.is_scale() {
                return Ok(false);
            }
            let error = FieldError::invalid("metadata.resourceVersion", 0, "must be specified for an update");
            // Kubernetes names the resource here, and not the kind.
            let (group, plural) = (target.kind.group, target.kind.plural);
            Err(Status::invalid(group, plural, &target.name, &[error]))
        }
        Wanted::Whole(_) => Ok(true),
        Wanted::Patched(PatchType::Apply, applied) => Ok(!object::resource_version(applied).is_empty()),
        // A patched object carries the live version unless the patch itself set one, which then was
        // the live one too: trying again with a newer object would find out.
        Wanted::Patched(..) => Ok(false),
    }
}
