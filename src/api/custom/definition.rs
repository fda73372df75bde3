//! What a definition says of itself.

use serde_json::{Value, json};

use crate::value::{get, list, text};

/// Whether a condition of a definition is true.
pub fn is_true(definition: &Value, condition: &str) -> bool {
    list(definition, "status.conditions")
        .iter()
        .any(|c| text(c, "type") == condition && text(c, "status") == "True")
}

/// The version in which objects are kept.
pub fn storage_version(definition: &Value) -> &str {
    let stored = |version: &&Value| get(version, "storage") == true;
    list(definition, "spec.versions")
        .iter()
        .find(stored)
        .map_or("", |version| text(version, "name"))
}

/// An empty status for a new definition.
pub fn new_status(definition: &Value) -> Value {
    let stored = Some(storage_version(definition)).filter(|version| !version.is_empty());
    let stored: Vec<&str> = stored.into_iter().collect();
    json!({
        "conditions": [],
        "acceptedNames": {"plural": "", "kind": ""},
        "storedVersions": stored,
    })
}
