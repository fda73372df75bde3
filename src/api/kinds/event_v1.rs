//! Event (events.k8s.io/v1): the same objects as core/v1 events, in their newer form.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::event;
use crate::kind::{Kind, Storage};
use crate::status::FieldError;
use crate::value::{Field, has, text};

/// Pairs of names: here, and in core/v1.
const RENAMED: [(&str, &str); 7] = [
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    storage_version_hash: "r2yiGXH7wu8=",
    storage: Some(Storage {
        group: "",
        version: "v1",
        to_stored,
        to_served,
    }),
    validate,
    validate_update: |new, old| {
        let mut errors = Vec::new();
        for key in [
            "regarding",
            "reason",
            "reportingController",
            "reportingInstance",
            "action",
            "eventTime",
        ] {
            Field::at(new, key).immutable(old, &mut errors);
        }
        errors
    },
    field_names: &[
        "reason",
        "regarding.apiVersion",
        "regarding.fieldPath",
        "regarding.kind",
        "regarding.name",
        "regarding.namespace",
        "regarding.resourceVersion",
        "regarding.uid",
        "reportingController",
        "type",
    ],
    field_aliases: &[
        ("regarding.apiVersion", "involvedObject.apiVersion"),
        ("regarding.fieldPath", "involvedObject.fieldPath"),
        ("regarding.kind", "involvedObject.kind"),
        ("regarding.name", "involvedObject.name"),
        ("regarding.namespace", "involvedObject.namespace"),
        ("regarding.resourceVersion", "involvedObject.resourceVersion"),
        ("regarding.uid", "involvedObject.uid"),
        ("reportingController", "reportingComponent"),
    ],
    fields: |event| {
        let label = |name: &'static str| KIND.field_label(name).unwrap_or(name);
        KIND.field_names
            .iter()
            .map(|name| (label(name), text(event, name).to_owned()))
            .collect()
    },
    columns: event::COLUMNS,
    row,
    ..Kind::NAMESPACED
};

fn to_stored(event: &mut Value) {
    rename(event, "v1", RENAMED.iter().copied());
}

fn to_served(event: &mut Value) {
    rename(
        event,
        "events.k8s.io/v1",
        RENAMED.iter().map(|(here, core)| (*core, *here)),
    );
}

fn rename(event: &mut Value, api_version: &str, names: impl Iterator<Item = (&'static str, &'static str)>) {
    let Some(map) = event.as_object_mut() else { return };
    map.insert("apiVersion".to_owned(), json!(api_version));
    for (from, to) in names {
        if let Some(value) = map.remove(from) {
            map.insert(to.to_owned(), value);
        }
    }
}

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let mut core = event.clone();
    to_stored(&mut core);
    event::row(&core, now)
}

fn validate(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let at = |key: &str| Field::at(event, key);
    let (own, about) = (
        text(event, "metadata.namespace"),
        text(event, "regarding.namespace"),
    );
    if !about.is_empty() && own != about {
        errors.push(at("regarding.namespace").invalid("does not match event.namespace"));
    }
    for key in [
        "eventTime",
        "reportingController",
        "reportingInstance",
        "action",
        "reason",
    ] {
        if at(key).is_blank() {
            errors.push(at(key).required(""));
        }
    }
    for (key, max) in [
        ("reportingInstance", 128),
        ("action", 128),
        ("reason", 128),
        ("note", 1024),
    ] {
        if at(key).text().len() > max {
            errors.push(at(key).invalid(format!("can have at most {max} characters")));
        }
    }
    if !matches!(text(event, "type"), "Normal" | "Warning") {
        errors.push(at("type").invalid(format!("has invalid value: {}", text(event, "type"))));
    }
    for key in ["deprecatedFirstTimestamp", "deprecatedLastTimestamp"] {
        if has(event, key) {
            errors.push(at(key).invalid("needs to be unset"));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_one_object() {
        let served = json!({"apiVersion": "events.k8s.io/v1", "note": "n", "regarding": {"kind": "Pod"},
            "reportingController": "x", "series": {"count": 2}});
        let mut event = served.clone();
        to_stored(&mut event);
        assert_eq!(
            event,
            json!({"apiVersion": "v1", "message": "n", "involvedObject": {"kind": "Pod"}, "reportingComponent": "x",
                "series": {"count": 2}})
        );
        to_served(&mut event);
        assert_eq!(event, served);
        assert_eq!(KIND.stored_as(), ("", "v1"));
    }

    #[test]
    fn new_events_say_who_did_what() {
        let texts: Vec<String> = validate(&json!({"type": "Odd"}))
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(texts[0], "eventTime: Required value");
        assert_eq!(texts[5], "type: Invalid value: \"Odd\": has invalid value: Odd");
    }
}
