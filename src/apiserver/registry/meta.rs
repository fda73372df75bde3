//! What the registry itself does to an object's metadata. Pure.

use std::sync::LazyLock;

use api::object;
use api::request::{Notes, User};
use api::status::Status;
use api::value;
use base::Random;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::target::Target;

/// Fields of metadata that only the server writes.
const SYSTEM: [&str; 4] = [
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "resourceVersion",
];

/// Puts a submitted object into the namespace of its request.
///
/// # Errors
/// 400 when it names another one.
pub(super) fn settle_namespace(target: &Target, new: &mut Value) -> Result<(), Status> {
    let given = object::namespace(new);
    if target.namespace.is_empty() {
        object::metadata_mut(new).remove("namespace");
    } else if given.is_empty() {
        object::set(new, &["metadata", "namespace"], target.namespace.as_str());
    } else if given != target.namespace {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Gives a submitted object the name of its request.
///
/// # Errors
/// 400 when it has another one.
pub(super) fn settle_name(target: &Target, new: &mut Value) -> Result<(), Status> {
    let given = object::name(new);
    if given.is_empty() {
        object::set(new, &["metadata", "name"], target.name.as_str());
    } else if given != target.name {
        return Err(Status::bad_request(format!(
            "the name of the object ({given}) does not match the name on the URL ({})",
            target.name
        )));
    }
    Ok(())
}

/// Writes what a new object gets from the server.
pub(super) fn born(new: &mut Value, random: &dyn Random, now: Timestamp) {
    let metadata = object::metadata_mut(new);
    for key in SYSTEM {
        metadata.remove(key);
    }
    metadata.insert("uid".to_owned(), random.uuid().into());
    metadata.insert("creationTimestamp".to_owned(), object::time_text(now).into());
}

/// What the caller is told who names an owner twice.
pub(super) const DUPLICATE_OWNERS: &str = ".metadata.ownerReferences contains duplicate entries";
/// The same, when it is seen only after admission, or in what a patch made.
pub(super) const ADMITTED_DUPLICATE_OWNERS: &str =
    ".metadata.ownerReferences contains duplicate entries after mutating admission happens";

/// Leaves one of several equal references to an owner, and says so, beginning with `what`.
pub(super) fn single_owners(new: &mut Value, notes: &Notes, what: &str) {
    let owners = object::owner_references(new);
    let mut kept: Vec<Value> = Vec::with_capacity(owners.len());
    let mut twice = Vec::new();
    for owner in owners {
        if kept.iter().any(|before| value::same(before, owner)) {
            twice.push(value::text(owner, "uid").to_owned());
        } else {
            kept.push(owner.clone());
        }
    }
    if twice.is_empty() {
        return;
    }
    object::set(new, &["metadata", "ownerReferences"], kept);
    notes.warn(format!(
        "{what}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix \
         your requests; duplicate UID(s) observed: {}",
        twice.join(", ")
    ));
}

/// Gives a changed object what only the server writes.
pub(super) fn inherit(new: &mut Value, live: &Value) {
    let old = object::get_map(live, &["metadata"]);
    let metadata = object::metadata_mut(new);
    for key in SYSTEM {
        carry(metadata, old, key);
    }
    // These may be left out, but what is given is validated.
    for key in ["uid", "creationTimestamp", "name", "namespace"] {
        if metadata.get(key).is_none_or(|v| v.is_null() || v == "") {
            carry(metadata, old, key);
        }
    }
    carry(metadata, old, "generation");
}

fn carry(to: &mut Map<String, Value>, from: &Map<String, Value>, key: &str) {
    match from.get(key) {
        Some(value) => {
            to.insert(key.to_owned(), value.clone());
        }
        None => {
            to.remove(key);
        }
    }
}

/// Whether two objects say the same, the times in their managed fields aside.
/// Such a write changes nothing and gets no new revision.
pub(super) fn unchanged(new: &Value, live: &Value) -> bool {
    let (Some(new), Some(live)) = (new.as_object(), live.as_object()) else {
        return false;
    };
    let (new_meta, live_meta) = (metadata(new), metadata(live));
    same_but(new, live, "metadata")
        && same_but(new_meta, live_meta, "managedFields")
        && same_managers(new_meta.get("managedFields"), live_meta.get("managedFields"))
}

fn metadata(object: &Map<String, Value>) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    object.get("metadata").and_then(Value::as_object).unwrap_or(&NONE)
}

/// Whether two objects have the same members, one of them aside.
fn same_but(a: &Map<String, Value>, b: &Map<String, Value>, aside: &str) -> bool {
    let within = |a: &Map<String, Value>, b: &Map<String, Value>| {
        a.iter()
            .all(|(key, value)| key == aside || b.get(key) == Some(value))
    };
    within(a, b) && b.keys().all(|key| key == aside || a.contains_key(key))
}

fn same_managers(new: Option<&Value>, live: Option<&Value>) -> bool {
    let (new, live) = (items(new), items(live));
    let same = |(a, b): (&Value, &Value)| match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => same_but(a, b, "time"),
        _ => a == b,
    };
    new.len() == live.len() && new.iter().zip(live).all(same)
}

fn items(list: Option<&Value>) -> &[Value] {
    list.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Marks an object as going: it goes at `at` at the latest, `grace` seconds after it was told.
pub(super) fn mark_deleted(object: &mut Value, at: Timestamp, grace: i64) {
    let metadata = object::metadata_mut(object);
    metadata.insert("deletionTimestamp".to_owned(), object::time_text(at).into());
    metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    if let Some(generation) = metadata
        .get("generation")
        .and_then(Value::as_i64)
        .filter(|g| *g > 0)
    {
        metadata.insert("generation".to_owned(), (generation + 1).into());
    }
}

/// Who asked, as a certificate signing request remembers it (`spec.username` and so on).
pub(super) fn sign_with_user(request: &mut Value, user: &User) {
    let spec = object::map_mut(request, &["spec"]);
    for key in ["username", "uid", "groups", "extra"] {
        spec.remove(key);
    }
    spec.insert("username".to_owned(), user.name.as_str().into());
    if !user.uid.is_empty() {
        spec.insert("uid".to_owned(), user.uid.as_str().into());
    }
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        let extra: Map<String, Value> = user
            .extra
            .iter()
            .map(|(key, values)| (key.clone(), values.clone().into()))
            .collect();
        spec.insert("extra".to_owned(), extra.into());
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn times_of_managers_do_not_make_a_change() {
        let a = json!({"metadata": {"name": "a", "managedFields": [{"manager": "m", "time": "1"}]}, "data": {"k": "v"}});
        let mut b = a.clone();
        b["metadata"]["managedFields"][0]["time"] = "2".into();
        assert!(unchanged(&a, &b));
        b["metadata"]["managedFields"][0]["manager"] = "n".into();
        assert!(!unchanged(&a, &b));
        let mut c = a.clone();
        c["metadata"]["labels"] = json!({"x": "y"});
        assert!(!unchanged(&a, &c) && !unchanged(&c, &a));
    }

    #[test]
    fn an_owner_is_named_once() {
        let owner =
            |uid: &str, blocks: bool| json!({"uid": uid, "kind": "Pod", "blockOwnerDeletion": blocks});
        let owners = [
            owner("1", true),
            owner("2", true),
            owner("1", true),
            owner("1", false),
        ];
        let (mut new, notes) = (json!({"metadata": {"ownerReferences": owners}}), Notes::default());
        single_owners(&mut new, &notes, DUPLICATE_OWNERS);
        single_owners(&mut new, &notes, ADMITTED_DUPLICATE_OWNERS);
        let kept = json!([owner("1", true), owner("2", true), owner("1", false)]);
        assert_eq!(new["metadata"]["ownerReferences"], kept);
        assert_eq!(
            notes.warnings(),
            [
                ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and \
              may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: 1"
            ]
        );
    }

    #[test]
    fn a_change_inherits_what_only_the_server_writes() {
        let live = json!({"metadata": {"name": "a", "uid": "u", "creationTimestamp": "t", "resourceVersion": "7",
                                       "generation": 2, "deletionTimestamp": "d"}});
        let mut new =
            json!({"metadata": {"name": "a", "generation": 9, "selfLink": "/x", "creationTimestamp": null}});
        inherit(&mut new, &live);
        assert_eq!(new, live);
    }
}
