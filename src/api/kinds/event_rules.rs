//! Rules for events in either form. They are read in the core form, whose paths Kubernetes names in both.

use serde_json::Value;

use crate::names;
use crate::status::FieldError;
use crate::value::{Field, get, has, int, same, text};

/// Bytes of who, what and why.
const WORD_MAX: usize = 128;
/// Bytes of the message.
const NOTE_MAX: usize = 1024;

/// What holds for every event; `reporter` is the path under which its reporting controller is named.
pub fn always(event: &Value, reporter: &str) -> Vec<FieldError> {
    let (own, about) = (
        text(event, "metadata.namespace"),
        text(event, "involvedObject.namespace"),
    );
    let mut errors = Vec::new();
    let timed = has(event, "eventTime");
    // Events about cluster-scoped objects lie in a namespace of the system.
    let fits = match (timed, about.is_empty()) {
        (false, true) => matches!(own, "default" | ""),
        (false, false) => own == about,
        (true, empty) => !empty || matches!(own, "default" | "kube-system"),
    };
    if !fits {
        let path = "involvedObject.namespace";
        errors.push(FieldError::invalid(path, about, "does not match event.namespace"));
    }
    if timed {
        said_by(event, reporter, &mut errors);
    }
    errors
}

/// Rules for an event that has a time of its own: who says so, and what was done.
fn said_by(event: &Value, reporter: &str, errors: &mut Vec<FieldError>) {
    let name = text(event, "reportingComponent");
    if name.is_empty() {
        errors.push(FieldError::required(reporter, ""));
    }
    let wrong = names::is_qualified_name(name).into_iter();
    errors.extend(wrong.map(|why| FieldError::invalid(reporter, name, why)));
    for key in ["reportingInstance", "action", "reason"] {
        Field::at(event, key).needed(errors);
        at_most(event, key, WORD_MAX, errors);
    }
    at_most(event, "message", NOTE_MAX, errors);
}

fn at_most(event: &Value, key: &str, max: usize, errors: &mut Vec<FieldError>) {
    if text(event, key).len() > max {
        errors.push(FieldError::invalid(
            key,
            "",
            format!("can have at most {max} characters"),
        ));
    }
}

/// What holds besides for a new event in the newer form.
pub fn created_anew(event: &Value) -> Vec<FieldError> {
    let mut errors = series(event);
    Field::at(event, "eventTime").needed(&mut errors);
    let sort = text(event, "type");
    if !matches!(sort, "Normal" | "Warning") {
        errors.push(FieldError::invalid(
            "type",
            "",
            format!("has invalid value: {sort}"),
        ));
    }
    let source = ["source.component", "source.host"];
    for (path, is_set) in [
        ("firstTimestamp", has(event, "firstTimestamp")),
        ("lastTimestamp", has(event, "lastTimestamp")),
        ("count", int(event, "count").unwrap_or(0) != 0),
        ("source", source.iter().any(|path| !text(event, path).is_empty())),
    ] {
        if is_set {
            errors.push(FieldError::invalid(path, "", "needs to be unset"));
        }
    }
    errors
}

fn series(event: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !has(event, "series") {
        return errors;
    }
    if int(event, "series.count").unwrap_or(0) < 2 {
        errors.push(FieldError::invalid("series.count", "", "should be at least 2"));
    }
    Field::at(event, "series.lastObservedTime").needed(&mut errors);
    errors
}

/// What holds besides for a changed event in the newer form: only its series goes on.
pub fn changed_anew(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !same(get(new, "series"), get(old, "series")) {
        errors.extend(series(new));
    }
    for key in [
        "involvedObject",
        "reason",
        "message",
        "source",
        "firstTimestamp",
        "lastTimestamp",
        "count",
        "type",
        "eventTime",
        "action",
        "related",
    ] {
        Field::at(new, key).immutable(old, &mut errors);
    }
    let (name, before) = (get(new, "reportingComponent"), get(old, "reportingComponent"));
    Field::new(name, "reportingController").unchanged(before, &mut errors);
    Field::at(new, "reportingInstance").immutable(old, &mut errors);
    errors
}
