//! What a claim asks for: requests, constraints between them, and configuration.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{effect, opaque, qualified, selectors};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, each, fill_number, fill_text, get_mut, list, text};

const REQUESTS_MAX: usize = 32;
const ALTERNATIVES_MAX: usize = 8;
const CONSTRAINTS_MAX: usize = 32;

/// Defaults of a claim's `devices`: one device of each request.
pub fn default(devices: &mut Value) {
    each(devices, "requests", |request| {
        if let Some(exactly) = get_mut(request, "exactly") {
            default_request(exactly);
        }
        each(request, "firstAvailable", default_request);
    });
}

fn default_request(request: &mut Value) {
    fill_text(request, "allocationMode", "ExactCount");
    if text(request, "allocationMode") == "ExactCount" {
        fill_number(request, "count", 1);
    }
    each(request, "tolerations", |toleration| {
        fill_text(toleration, "operator", "Equal");
    });
}

/// The names that constraints and configurations may refer to.
pub fn names_of(devices: &Value) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    for request in list(devices, "requests") {
        let name = text(request, "name");
        out.insert(name.to_owned());
        for alternative in list(request, "firstAvailable") {
            out.insert(format!("{name}/{}", text(alternative, "name")));
        }
    }
    out
}

/// Rules for a claim's `devices`.
pub fn validate(devices: &Field, errors: &mut Vec<FieldError>) {
    let known = names_of(devices.value);
    devices.at_most("requests", REQUESTS_MAX, errors);
    for request in devices.items("requests") {
        self::request(&request, errors);
    }
    devices.unique("requests", "name", errors);
    devices.at_most("constraints", CONSTRAINTS_MAX, errors);
    for constraint in devices.items("constraints") {
        references(&constraint, &known, errors);
        let (matching, distinct) = (
            constraint.get("matchAttribute"),
            constraint.get("distinctAttribute"),
        );
        if matching.is_set() {
            qualified(&matching, true, errors);
        } else if distinct.is_set() {
            qualified(&distinct, true, errors);
        } else {
            let why = "exactly one of \"matchAttribute\" or \"distinctAttribute\" is required, but multiple fields are set";
            errors.push(constraint.required(why));
        }
    }
    devices.at_most("config", super::CONFIGURATIONS_MAX, errors);
    for config in devices.items("config") {
        references(&config, &known, errors);
        opaque(&config, errors);
    }
}

fn request(request: &Field, errors: &mut Vec<FieldError>) {
    let name = request.get("name");
    errors.extend(name.invalid_each(names::is_dns_label(name.text())));
    let (exactly, first) = (request.get("exactly"), request.get("firstAvailable"));
    match (exactly.is_set(), !first.is_blank()) {
        (false, false) => {
            errors.push(request.required("exactly one of `exactly` or `firstAvailable` is required"))
        }
        (true, true) => errors.push(FieldError::invalid(
            &request.path,
            json!(null),
            "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
        )),
        (true, false) => wanted(&exactly, errors),
        (false, true) => {
            request.at_most("firstAvailable", ALTERNATIVES_MAX, errors);
            for alternative in request.items("firstAvailable") {
                let name = alternative.get("name");
                errors.extend(name.invalid_each(names::is_dns_label(name.text())));
                wanted(&alternative, errors);
            }
            request.unique("firstAvailable", "name", errors);
        }
    }
}

fn wanted(wanted: &Field, errors: &mut Vec<FieldError>) {
    let class = wanted.get("deviceClassName");
    if class.needed(errors) {
        errors.extend(class.invalid_each(names::is_dns_subdomain(class.text())));
    }
    selectors(wanted, errors);
    let (mode, count) = (wanted.get("allocationMode"), wanted.get("count"));
    match mode.text() {
        "All" if count.int().is_some_and(|n| n != 0) => {
            errors.push(count.invalid("must not be specified when allocationMode is 'All'"));
        }
        "All" => {}
        "ExactCount" if count.int().unwrap_or(0) <= 0 => {
            errors.push(count.invalid("must be greater than zero"));
        }
        "ExactCount" => {}
        _ => errors.push(mode.not_supported(&["All", "ExactCount"])),
    }
    for toleration in wanted.items("tolerations") {
        effect(&toleration, errors);
        let (operator, value) = (toleration.get("operator"), toleration.get("value"));
        operator.one_of_if_set(&["Equal", "Exists"], errors);
        if operator.text() == "Exists" && !value.is_blank() {
            errors.push(value.invalid("must be empty for operator `Exists`"));
        }
    }
}

/// Every name below `holder.requests` must be one of the claim's.
pub fn references(holder: &Field, known: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    for name in holder.items("requests") {
        reference(&name, known, errors);
    }
    holder.unique("requests", "", errors);
}

/// The name must be one of the claim's.
pub fn reference(name: &Field, known: &BTreeSet<String>, errors: &mut Vec<FieldError>) {
    if !known.contains(name.text()) {
        errors.push(name.invalid(
            "must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
        ));
    }
}
