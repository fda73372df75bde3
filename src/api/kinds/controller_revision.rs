//! ControllerRevision: one past state of a controller.

use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind};
use crate::object::split_api_version;
use crate::status::FieldError;
use crate::value::{Field, flag, int, list, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apps",
    kind: "ControllerRevision",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    storage_version_hash: "85nkx63pcBU=",
    validate,
    validate_update: |new, old| {
        let mut errors = validate(new);
        Field::at(new, "data").immutable(old, &mut errors);
        errors
    },
    columns: &[
        Column::NAME,
        Column::text("Controller"),
        Column::text("Revision"),
        Column::AGE,
    ],
    row: |revision, now| {
        vec![
            cells::name(revision),
            json!(controller(revision)),
            json!(int(revision, "revision").unwrap_or(0)),
            cells::age(revision, now),
        ]
    },
    ..Kind::NAMESPACED
};

fn validate(revision: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let data = Field::at(revision, "data");
    if !data.is_set() {
        errors.push(data.required("data is mandatory"));
    }
    Field::at(revision, "revision").non_negative(&mut errors);
    errors
}

/// The owner that controls it, such as `deployment.apps/web`.
fn controller(revision: &Value) -> String {
    let owner = list(revision, "metadata.ownerReferences")
        .iter()
        .find(|o| flag(o, "controller"));
    let Some(owner) = owner else {
        return "<none>".to_owned();
    };
    let (group, _) = split_api_version(text(owner, "apiVersion"));
    let kind = text(owner, "kind").to_lowercase();
    let kind = if group.is_empty() {
        kind
    } else {
        format!("{kind}.{group}")
    };
    format!("{kind}/{}", text(owner, "name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_is_needed_and_stays() {
        assert_eq!(
            validate(&json!({}))[0].to_string(),
            "data: Required value: data is mandatory"
        );
        let (old, new) = (json!({"data": {"a": 1}}), json!({"data": {"a": 2}}));
        assert_eq!(
            (KIND.validate_update)(&new, &old)[0].to_string(),
            "data: Invalid value: {\"a\":2}: field is immutable"
        );
    }

    #[test]
    fn the_controller_is_shown() {
        let owned = json!({"metadata": {"ownerReferences": [
            {"apiVersion": "apps/v1", "kind": "DaemonSet", "name": "d", "controller": true}]}});
        assert_eq!(controller(&owned), "daemonset.apps/d");
        assert_eq!(controller(&json!({})), "<none>");
    }
}
