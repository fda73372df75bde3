//! What keeps a deleted object until somebody is done with it.

use client::Object;
use serde_json::json;

use crate::plan::Write;

/// All of an object's.
pub fn finalizers<T: Object>(object: &T) -> &[String] {
    object.metadata().finalizers.as_deref().unwrap_or_default()
}

/// Whether an object has that one.
pub fn has_finalizer<T: Object>(object: &T, finalizer: &str) -> bool {
    finalizers(object).iter().any(|one| one == finalizer)
}

/// Gives an object those finalizers in place of the ones it was seen with.
pub fn set_finalizers<T: Object>(object: &T, list: &[&str]) -> Write {
    let version = &object.metadata().resource_version;
    Write::merge(
        object,
        json!({"metadata": {"resourceVersion": version, "finalizers": list}}),
    )
}

/// Gives an object further finalizers.
pub fn add_finalizers<T: Object>(object: &T, further: &[&str]) -> Write {
    let had = finalizers(object).iter().map(String::as_str);
    let list: Vec<&str> = had.chain(further.iter().copied()).collect();
    set_finalizers(object, &list)
}

/// The object without one of its finalizers, or with it, if that changes anything.
pub fn with_finalizer<T: Object + Clone>(object: &T, finalizer: &str, wanted: bool) -> Option<T> {
    if has_finalizer(object, finalizer) == wanted {
        return None;
    }
    let mut new = object.clone();
    let list = new.metadata_mut().finalizers.get_or_insert_default();
    if wanted {
        list.push(finalizer.to_owned());
    } else {
        list.retain(|one| one != finalizer);
    }
    Some(new)
}
