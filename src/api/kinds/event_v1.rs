//! Event (events.k8s.io/v1): the same objects as core/v1 events, in their newer form.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{event, event_rules};
use crate::kind::{Dependents, Kind, Storage};
use crate::value::text;

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

/// Where errors show who reports.
const REPORTER: &str = "reportingController";

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "events.k8s.io",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    dependents: Dependents::Unknown,
    storage_version_hash: "r2yiGXH7wu8=",
    storage: Some(Storage {
        group: "",
        version: "v1",
        to_stored,
        to_served,
    }),
    validate: |event| {
        let event = &stored(event);
        let mut errors = event_rules::always(event, REPORTER);
        errors.extend(event_rules::created_anew(event));
        errors
    },
    validate_update: |new, old| {
        let new = &stored(new);
        let mut errors = event_rules::always(new, REPORTER);
        errors.extend(event_rules::changed_anew(new, &stored(old)));
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

/// A copy in the core form.
fn stored(event: &Value) -> Value {
    let mut core = event.clone();
    to_stored(&mut core);
    core
}

fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    event::row(&stored(event), now)
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
}
