//! APIService: who serves a group and version.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, fill_number, get_mut, has, keep, list, remove, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "apiregistration.k8s.io",
    kind: "APIService",
    plural: "apiservices",
    singular: "apiservice",
    categories: &["api-extensions"],
    subresources: &[Subresource::status("APIService")],
    unconditional_update: false,
    storage_version_hash: "InPBPD7+PqM=",
    reset_fields: &["status"],
    reset_fields_status: &["spec"],
    name_rule: names::path_segment,
    default: |service| {
        if let Some(at) = get_mut(service, "spec.service") {
            fill_number(at, "port", 443);
        }
    },
    prepare_create: |service| remove(service, "status"),
    prepare_update: |new, old| keep(new, old, "status"),
    prepare_status: |new, old| {
        keep(new, old, "spec");
        for path in ["labels", "annotations", "finalizers", "ownerReferences"] {
            keep(new, old, &format!("metadata.{path}"));
        }
    },
    validate,
    validate_update: |new, _| validate(new),
    validate_status: |new, _| {
        let mut errors = Vec::new();
        for condition in Field::at(new, "status").items("conditions") {
            condition
                .get("status")
                .one_of(&["False", "True", "Unknown"], &mut errors);
        }
        errors
    },
    columns: &[
        Column::NAME,
        Column::text("Service"),
        Column::text("Available"),
        Column::AGE,
    ],
    row,
    ..Kind::CLUSTER
};

fn validate(service: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(service, "spec");
    let (group, version) = (spec.get("group"), spec.get("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    let name = Field::at(service, "metadata.name");
    if !name.is_blank() && name.text() != wanted {
        errors.push(name.invalid(format!("must be `spec.version+\".\"+spec.group`: {wanted:?}")));
    }
    if group.is_blank() && version.text() != "v1" {
        errors.push(group.required("only v1 may have an empty group and it better be legacy kube"));
    }
    if !group.is_blank() {
        errors.extend(group.invalid_each(names::is_dns_subdomain(group.text())));
    }
    errors.extend(version.invalid_each(names::is_dns1035_label(version.text())));
    for (key, max) in [("groupPriorityMinimum", 20000), ("versionPriority", 1000)] {
        let priority = spec.get(key);
        if !(1..=max).contains(&priority.int().unwrap_or(0)) {
            let why = format!("must be positive and less than {max}");
            let given = priority.int().unwrap_or(0);
            errors.push(FieldError::invalid(&priority.path, given, why));
        }
    }
    whereabouts(&spec, &mut errors);
    errors
}

/// A service elsewhere is named and trusted in one way; one of our own needs neither.
fn whereabouts(spec: &Field, errors: &mut Vec<FieldError>) {
    let (service, bundle, skip) = (
        spec.get("service"),
        spec.get("caBundle"),
        spec.get("insecureSkipTLSVerify"),
    );
    if !service.is_set() {
        if !bundle.is_blank() {
            let size = format!("{} bytes", bundle.text().len() / 4 * 3);
            errors.push(FieldError::invalid(
                &bundle.path,
                size,
                "local APIServices may not have a caBundle",
            ));
        }
        if skip.flag() {
            errors.push(skip.invalid("local APIServices may not have insecureSkipTLSVerify"));
        }
        return;
    }
    service.get("namespace").needed(errors);
    service.get("name").needed(errors);
    if let Some(port) = service.get("port").int() {
        for why in names::is_port_number(port) {
            errors.push(service.get("port").invalid(format!("port is not valid: {why}")));
        }
    }
    if skip.flag() && !bundle.is_blank() {
        errors.push(skip.invalid("may not be true if caBundle is present"));
    }
}

fn row(service: &Value, now: Timestamp) -> Vec<Value> {
    let at = match has(service, "spec.service") {
        true => format!(
            "{}/{}",
            text(service, "spec.service.namespace"),
            text(service, "spec.service.name")
        ),
        false => "Local".to_owned(),
    };
    let available = list(service, "status.conditions")
        .iter()
        .find(|c| text(c, "type") == "Available");
    let available = match available {
        None => "Unknown".to_owned(),
        Some(c) if text(c, "status") == "True" => "True".to_owned(),
        Some(c) => format!("{} ({})", text(c, "status"), text(c, "reason")),
    };
    vec![
        cells::name(service),
        json!(at),
        json!(available),
        cells::age(service, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_named_after_what_it_serves() {
        let good = json!({"metadata": {"name": "v1.a.io"},
            "spec": {"group": "a.io", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}});
        assert!(validate(&good).is_empty());
        let mut bad = good.clone();
        bad["spec"]["version"] = json!("v2");
        bad["spec"]["versionPriority"] = json!(1001);
        let said: Vec<String> = validate(&bad).iter().map(ToString::to_string).collect();
        assert_eq!(
            said,
            [
                "metadata.name: Invalid value: \"v1.a.io\": must be `spec.version+\".\"+spec.group`: \"v2.a.io\"",
                "spec.versionPriority: Invalid value: 1001: must be positive and less than 1000"
            ]
        );
    }

    #[test]
    fn rows_say_where_and_whether() {
        let service = json!({"metadata": {"name": "a"}, "spec": {"service": {"namespace": "n", "name": "s"}},
            "status": {"conditions": [{"type": "Available", "status": "False", "reason": "MissingEndpoints"}]}});
        assert_eq!(
            row(&service, Timestamp::UNIX_EPOCH)[1..3],
            ["n/s", "False (MissingEndpoints)"]
        );
    }
}
