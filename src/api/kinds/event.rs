//! Event (core/v1): what happened to an object.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, event_rules};
use crate::kind::{Column, Dependents, Kind};
use crate::names;
use crate::value::{get, has, int, text};

/// Columns of events, in both API groups.
pub const COLUMNS: &[Column] = &[
    Column::text("Last Seen"),
    Column::text("Type"),
    Column::text("Reason"),
    Column::text("Object"),
    Column::text("Subobject").wide(),
    Column::text("Source").wide(),
    Column::text("Message"),
    Column::text("First Seen").wide(),
    Column::text("Count").wide(),
    Column::text("Name").name_format().wide(),
];

/// The descriptor.
pub static KIND: Kind = Kind {
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    create_on_update: true,
    dependents: Dependents::Unknown,
    storage_version_hash: "r2yiGXH7wu8=",
    name_rule: names::path_segment,
    validate: |event| event_rules::always(event, "reportingComponent"),
    validate_update: |new, _| event_rules::always(new, "reportingComponent"),
    field_names: &[
        "involvedObject.apiVersion",
        "involvedObject.fieldPath",
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.resourceVersion",
        "involvedObject.uid",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ],
    fields,
    columns: COLUMNS,
    row,
    ..Kind::NAMESPACED
};

fn fields(event: &Value) -> Vec<(&'static str, String)> {
    let about = KIND
        .field_names
        .iter()
        .filter(|name| name.starts_with("involvedObject."));
    let mut all: Vec<(&'static str, String)> =
        about.map(|name| (*name, text(event, name).to_owned())).collect();
    let reporter = text(event, "reportingComponent");
    let source = match text(event, "source.component") {
        "" => reporter,
        component => component,
    };
    all.push(("reason", text(event, "reason").to_owned()));
    all.push(("reportingComponent", reporter.to_owned()));
    all.push(("source", source.to_owned()));
    all.push(("type", text(event, "type").to_owned()));
    all
}

/// One row.
pub fn row(event: &Value, now: Timestamp) -> Vec<Value> {
    let since = |path: &str| cells::since(text(event, path), now);
    let first = if has(event, "firstTimestamp") {
        since("firstTimestamp")
    } else {
        since("eventTime")
    };
    let mut last = if has(event, "lastTimestamp") {
        since("lastTimestamp")
    } else {
        first.clone()
    };
    let mut count = int(event, "count").unwrap_or(0).max(1);
    if has(event, "series") {
        last = since("series.lastObservedTime");
        count = int(event, "series.count").unwrap_or(0);
    }
    vec![
        json!(last),
        json!(text(event, "type")),
        json!(text(event, "reason")),
        json!(target(get(event, "involvedObject"))),
        json!(text(event, "involvedObject.fieldPath")),
        json!(source(event)),
        json!(text(event, "message").trim()),
        json!(first),
        json!(count),
        cells::name(event),
    ]
}

fn target(object: &Value) -> String {
    let kind = text(object, "kind").to_lowercase();
    match text(object, "name") {
        "" => kind,
        name => format!("{kind}/{name}"),
    }
}

fn source(event: &Value) -> String {
    let or = |a: &str, b: &str| text(event, if text(event, a).is_empty() { b } else { a }).to_owned();
    let component = or("source.component", "reportingComponent");
    let host = or("source.host", "reportingInstance");
    if host.is_empty() {
        component
    } else {
        format!("{component}, {host}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_those_of_kubectl() {
        let event = json!({
            "metadata": {"name": "p.1", "namespace": "n"}, "type": "Normal", "reason": "Pulled", "message": "done\n",
            "involvedObject": {"kind": "Pod", "name": "p", "namespace": "n", "fieldPath": "spec.containers{c}"},
            "source": {"component": "kubelet", "host": "n1"}, "count": 3,
            "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:05:00Z",
        });
        let now = "2024-01-01T00:05:03Z".parse().unwrap();
        assert_eq!(
            row(&event, now),
            [
                json!("3s"),
                json!("Normal"),
                json!("Pulled"),
                json!("pod/p"),
                json!("spec.containers{c}"),
                json!("kubelet, n1"),
                json!("done"),
                json!("5m3s"),
                json!(3),
                json!("p.1")
            ]
        );
        assert!((KIND.validate)(&event).is_empty());
        let series = json!({"eventTime": "2024-01-01T00:00:00.000000Z", "series": {"count": 7, "lastObservedTime": "2024-01-01T00:05:01.000000Z"}});
        let cells = row(&series, now);
        assert_eq!(
            (&cells[0], &cells[7], &cells[8]),
            (&json!("2s"), &json!("5m3s"), &json!(7))
        );
    }

    #[test]
    fn events_lie_beside_their_object() {
        let event = json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}});
        assert_eq!(
            (KIND.validate)(&event)[0].to_string(),
            "involvedObject.namespace: Invalid value: \"b\": does not match event.namespace"
        );
    }
}
