//! Server-side apply and managed fields.
//!
//! Every write is compared with what was there; the paths that changed belong
//! to the writer from then on. An apply owns what its configuration says,
//! changed or not, and conflicts where that takes a changed path from someone
//! else. Semantics as in Kubernetes' structured-merge-diff.

mod check;
mod compare;
mod differences;
mod managers;
mod merge;
mod reconcile;
mod typed;
mod versions;
mod write;

use serde_json::Value;

use crate::canon;
use crate::fields::{FieldSet, Path, path_text};
use crate::object;
use crate::schema::Schema;
use crate::status::{Cause, Details, Status};
use differences::Differences;
use managers::{Managers, Owned};
pub use versions::{Form, OneVersion, Versions};
pub use write::Write;
use write::{Id, NOBODYS};

/// kubectl's record of what it applied from the client's side.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager of fields that were there before the first apply.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Server-side apply: merges `applied` into `live` and settles who owns what.
///
/// The result still has to be defaulted, canonicalised and validated; then [`settle_times`] keeps an
/// apply that changed nothing from looking like a change.
///
/// # Errors
/// 400 for another version or managed fields in the configuration; 500, as Kubernetes has it, when
/// the configuration does not fit the schema; 409 with a cause for each conflict, unless `force`.
pub fn apply(live: Option<&Value>, applied: Value, write: &Write<'_>, force: bool) -> Result<Value, Status> {
    check_applied(&applied, write)?;
    let blank = canon::blank(write.schema);
    let mut live_object = live.cloned().unwrap_or_else(|| blank.clone());
    let mut managers =
        Managers::of(&live_object).ok_or_else(|| Status::internal("failed to decode managed fields"))?;
    object::remove(&mut live_object, &["metadata", "managedFields"]);
    let mut config = applied;
    canon::respell(&mut config, write.schema);
    if managers.0.is_empty() {
        let first = Write {
            manager: BEFORE_FIRST_APPLY,
            ..*write
        };
        record(blank, &live_object, &mut managers, &first);
    }
    reconcile::managers(&mut managers, &live_object, write);
    let attempt = |force| settle(&live_object, &config, managers.clone(), write, force);
    let (mut merged, managers) = match attempt(force) {
        Ok(done) => done,
        Err(conflicts) => {
            // An object that kubectl applied from the client's side changes over without conflict.
            let left = conflicts.without(&taken_over(&live_object, write));
            if !left.0.is_empty() {
                return Err(left.status());
            }
            attempt(true).map_err(|conflicts| conflicts.status())?
        }
    };
    managers.put(&mut merged);
    refresh_last_applied(&mut merged, &config, write);
    Ok(merged)
}

/// What an apply of `config` would make of `live` if nobody owned any field (admission policies that mutate).
///
/// # Errors
/// What of the configuration does not fit the schema, or would replace what counts as one piece.
pub fn merged(live: &Value, config: &Value, schema: &Schema) -> Result<Value, String> {
    let problems = check::problems(config, schema);
    if !problems.is_empty() {
        return Err(problems.join("; "));
    }
    let atoms = check::atoms(config, schema);
    if !atoms.is_empty() {
        let paths: Vec<String> = atoms.iter().map(|path| path_text(path)).collect();
        return Err(format!(
            "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {}",
            paths.join(", ")
        ));
    }
    Ok(merge::merge(live, config, schema))
}

fn check_applied(applied: &Value, write: &Write<'_>) -> Result<(), Status> {
    if !applied.is_object() {
        return Err(Status::bad_request(
            "error decoding YAML: the configuration is no object",
        ));
    }
    let version = object::api_version(applied);
    if version != write.api_version {
        return Err(Status::bad_request(format!(
            "Incorrect version specified in apply patch. Specified patch version: {version}, expected: {}",
            write.api_version
        )));
    }
    if !object::get(applied, &["metadata", "managedFields"]).is_null() {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    let problems = check::problems(applied, write.schema);
    let text = match problems.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("errors:\n  {}", many.join("\n  ")),
    };
    let (namespace, name) = (object::namespace(applied), object::name(applied));
    let ((group, version), kind) = (object::split_api_version(version), object::kind(applied));
    Err(Status::new(
        500,
        "",
        format!(
            "failed to create typed patch object ({namespace}/{name}; {group}/{version}, Kind={kind}): {text}"
        ),
    ))
}

/// Who is in the way, and of which paths.
struct Conflicts(Vec<(Id, Path)>);

impl Conflicts {
    fn without(self, allowed: &FieldSet) -> Self {
        Self(
            self.0
                .into_iter()
                .filter(|(_, path)| !allowed.has(path))
                .collect(),
        )
    }

    fn status(&self) -> Status {
        let mut status = Status::new(409, "Conflict", self.text());
        let cause = |(id, path): &(Id, Path)| Cause {
            reason: "FieldManagerConflict".to_owned(),
            message: format!("conflict with {}", id.shown()),
            field: path_text(path),
        };
        status.details = Some(Box::new(Details {
            causes: self.0.iter().map(cause).collect(),
            ..Details::default()
        }));
        status
    }

    fn text(&self) -> String {
        if let [(id, path)] = self.0.as_slice() {
            return format!(
                "Apply failed with 1 conflict: conflict with {}: {}",
                id.shown(),
                path_text(path)
            );
        }
        let mut lines = Vec::new();
        let mut last = None;
        for (id, path) in &self.0 {
            if last != Some(id) {
                lines.push(format!("conflicts with {}:", id.shown()));
                last = Some(id);
            }
            lines.push(format!("- {}", path_text(path)));
        }
        format!(
            "Apply failed with {} conflicts: {}",
            self.0.len(),
            lines.join("\n")
        )
    }
}

fn settle(
    live: &Value,
    config: &Value,
    mut managers: Managers,
    write: &Write<'_>,
    force: bool,
) -> Result<(Value, Managers), Conflicts> {
    let id = write.id(true);
    let reset = FieldSet::of_dotted(write.reset);
    let last = managers.0.remove(&id).unwrap_or_default();
    let set = typed::paths_of(config, write.schema)
        .without(&reset)
        .difference(&NOBODYS);
    let owned = Owned {
        api_version: write.api_version.to_owned(),
        set,
        time: last.time.clone(),
    };
    managers.0.insert(id.clone(), owned);
    let merged = merge::merge(live, config, write.schema);
    let merged = prune_last(merged, &last, &managers, write);
    let differences = Differences::of(live, &merged, managers.versions(), write, &reset);
    let mut conflicts = Vec::new();
    for (other, owned) in managers.0.iter().filter(|(other, _)| **other != id) {
        let taken = owned
            .set
            .intersection(&differences.seen_in(&owned.api_version).changed);
        conflicts.extend(taken.paths().into_iter().map(|path| (other.clone(), path)));
    }
    if !conflicts.is_empty() && !force {
        return Err(Conflicts(conflicts));
    }
    managers.take(&differences, Some(&id));
    if merged != *live
        && let Some(owned) = managers.0.get_mut(&id)
    {
        owned.time = Some(object::time_text(write.now));
    }
    Ok((merged, managers))
}

/// Removes what the last apply set and this one does not, in the version in which it was set.
fn prune_last(merged: Value, last: &Owned, managers: &Managers, write: &Write<'_>) -> Value {
    if last.set.is_empty() || last.api_version == write.api_version {
        return prune(&merged, &last.set, managers, write.schema);
    }
    let (own, other) = (write.api_version, last.api_version.as_str());
    match write.versions.form(&merged, own, other) {
        Form::Same => prune(&merged, &last.set, managers, write.schema),
        Form::Gone => merged,
        Form::Other(shown, schema) => {
            let pruned = prune(&shown, &last.set, managers, &schema);
            match write.versions.form(&pruned, other, own) {
                Form::Other(back, _) => back,
                _ => merged,
            }
        }
    }
}

/// Removes what the last apply set, this one does not, and nobody else owns.
fn prune(merged: &Value, last: &FieldSet, managers: &Managers, schema: &Schema) -> Value {
    if last.is_empty() {
        return merged.clone();
    }
    let node = crate::schema::Node::Struct(schema.root.clone());
    let paths = |value: &Value| typed::paths_of(value, schema).with_named(&node);
    let (all, last) = (paths(merged), last.with_named(&node));
    let pruned = merge::remove(merged, &last, schema);
    let owned = managers.everything().with_named(&node);
    let gone = all.difference(&paths(&pruned).union(owned));
    let pruned = merge::remove(merged, &gone, schema);
    let gone = all.difference(&paths(&pruned)).intersection(&last);
    merge::remove(merged, &gone, schema)
}

/// What client-side apply set and nobody has changed since: server-side apply by kubectl may take it.
fn taken_over(live: &Value, write: &Write<'_>) -> FieldSet {
    let text = object::annotation(live, LAST_APPLIED).filter(|_| write.manager == "kubectl");
    let Some(Ok(last)) = text.map(serde_json::from_str::<Value>) else {
        return FieldSet::default();
    };
    if object::api_version(&last) != write.api_version {
        return FieldSet::default();
    }
    let difference = compare::compare(&last, live, write.schema);
    typed::paths_of(&last, write.schema)
        .difference(&difference.changed)
        .difference(&difference.removed)
}

fn refresh_last_applied(merged: &mut Value, config: &Value, write: &Write<'_>) {
    if write.manager != "kubectl" || object::annotation(merged, LAST_APPLIED).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    object::remove(&mut config, &["metadata", "annotations", LAST_APPLIED]);
    object::set_annotation(merged, LAST_APPLIED, format!("{config}\n"));
}

/// Gives the writer what changed from `live` to `new`, and takes it from the others.
fn record(live: &Value, new: &Value, managers: &mut Managers, write: &Write<'_>) {
    let reset = FieldSet::of_dotted(write.reset);
    let differences = Differences::of(live, new, managers.versions(), write, &reset);
    managers.take(&differences, None);
    let changed = differences.own.changed;
    if !changed.is_empty() {
        managers.give(write.id(false), write.api_version, changed, write.now);
    }
    managers.cap();
}

/// `new` with `metadata.managedFields` brought up to date for a plain write. Call it with the final,
/// canonical object.
///
/// A client may set `managedFields` itself: an empty list, or a list of one empty entry, stops the
/// tracking. What cannot be read is ignored in favour of what was there.
pub fn update_managed_fields(live: Option<&Value>, new: Value, write: &Write<'_>) -> Value {
    let mut new = new;
    let sent = object::remove(&mut new, &["metadata", "managedFields"]);
    let before = live.and_then(Managers::of).unwrap_or_default();
    let mut managers = match sent {
        Some(Value::Array(list)) if write.subresource.is_empty() => {
            let reset = match list.as_slice() {
                [] => true,
                [one] => one.as_object().is_some_and(serde_json::Map::is_empty),
                _ => false,
            };
            let sent = serde_json::json!({"metadata": {"managedFields": list}});
            match Managers::of(&sent) {
                _ if reset => Managers::default(),
                Some(managers) if !managers.0.is_empty() => managers,
                _ => before,
            }
        }
        _ => before,
    };
    // Who stopped the tracking does not want it back.
    if managers.0.is_empty() && live.is_some_and(|live| !object::uid(live).is_empty()) {
        return new;
    }
    if let Some(live) = live {
        reconcile::managers(&mut managers, live, write);
    }
    let before = live.unwrap_or_else(|| canon::blank(write.schema));
    record(before, &new, &mut managers, write);
    managers.put(&mut new);
    new
}

/// When `new` differs from `live` in the times of its managed fields alone, it gets the old times
/// back, so that nothing needs to be written. True when the two are the same then.
pub fn settle_times(live: &Value, new: &mut Value) -> bool {
    let timeless = |value: &Value| {
        let mut value = value.clone();
        if let Some(Value::Array(list)) = object::metadata_mut(&mut value).get_mut("managedFields") {
            for entry in list {
                object::remove(entry, &["time"]);
            }
        }
        value
    };
    if *live == *new {
        return true;
    }
    if timeless(live) != timeless(new) {
        return false;
    }
    *new = live.clone();
    true
}

#[cfg(test)]
mod tests;
