//! Ingress: routes requests from outside to Services.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::cells;
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::status::FieldError;
use crate::value::{Field, list, text};

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[Subresource::status("Ingress")],
    storage_version_hash: "39NQlfNR+bo=",
    validate,
    validate_update: |new, _| validate(new),
    columns: &[
        Column::NAME,
        Column::text("Class"),
        Column::text("Hosts"),
        Column::text("Address"),
        Column::text("Ports"),
        Column::AGE,
    ],
    row,
    ..Kind::WITH_STATUS
};

fn validate(ingress: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = Field::at(ingress, "spec");
    let default = spec.get("defaultBackend");
    if spec.get("rules").is_blank() && !default.is_set() {
        errors.push(FieldError::invalid(
            &spec.path,
            spec.value.clone(),
            "either `defaultBackend` or `rules` must be specified",
        ));
    }
    if default.is_set() {
        backend(&default, &mut errors);
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        errors.extend(class.invalid_each(names::is_dns_subdomain(class.text())));
    }
    for rule in spec.items("rules") {
        let host = rule.get("host");
        if !host.is_blank() {
            let name = host.text().strip_prefix("*.").unwrap_or(host.text());
            errors.extend(host.invalid_each(names::is_dns_subdomain(name)));
        }
        let http = rule.get("http");
        if http.is_set() && http.get("paths").is_blank() {
            errors.push(http.get("paths").required(""));
        }
        for path in http.items("paths") {
            http_path(&path, &mut errors);
        }
    }
    errors
}

fn http_path(path: &Field, errors: &mut Vec<FieldError>) {
    let (kind, at) = (path.get("pathType"), path.get("path"));
    match kind.text() {
        "" => errors.push(kind.required("pathType must be specified")),
        "Exact" | "Prefix" => {
            if !at.text().starts_with('/') {
                errors.push(at.invalid("must be an absolute path"));
            }
            for bad in ["//", "/./", "/../", "%2f", "%2F"] {
                if at.text().contains(bad) {
                    errors.push(at.invalid(format!("must not contain '{bad}'")));
                }
            }
        }
        "ImplementationSpecific" if !at.is_blank() && !at.text().starts_with('/') => {
            errors.push(at.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&path.get("backend"), errors);
}

fn backend(backend: &Field, errors: &mut Vec<FieldError>) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    match (service.is_set(), resource.is_set()) {
        (true, true) => errors.push(FieldError::invalid(
            &backend.path,
            "",
            "cannot set both resource and service backends",
        )),
        (false, false) => errors.push(backend.required("resource or service backend is required")),
        (true, false) => {
            let (name, port) = (service.get("name"), service.get("port"));
            if name.is_blank() {
                errors.push(name.required(""));
            }
            if port.get("name").is_blank() == port.get("number").int().is_none_or(|n| n == 0) {
                errors.push(port.required("port name or number is required"));
            }
        }
        (false, true) => {}
    }
}

fn row(ingress: &Value, now: Timestamp) -> Vec<Value> {
    let mut hosts: Vec<&str> = Vec::new();
    for host in list(ingress, "spec.rules")
        .iter()
        .map(|r| text(r, "host"))
        .filter(|h| !h.is_empty())
    {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    let hosts = match hosts.len() {
        0 => "*".to_owned(),
        n if n <= 3 => hosts.join(","),
        n => format!(
            "{} + {} more...",
            hosts.get(..3).unwrap_or(&hosts).join(","),
            n - 3
        ),
    };
    let addresses: BTreeSet<&str> = list(ingress, "status.loadBalancer.ingress")
        .iter()
        .map(|i| {
            if text(i, "ip").is_empty() {
                text(i, "hostname")
            } else {
                text(i, "ip")
            }
        })
        .collect();
    let tls = !list(ingress, "spec.tls").is_empty();
    vec![
        cells::name(ingress),
        json!(cells::or_none(text(ingress, "spec.ingressClassName"))),
        json!(hosts),
        json!(addresses.into_iter().collect::<Vec<_>>().join(",")),
        json!(if tls { "80, 443" } else { "80" }),
        cells::age(ingress, now),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_backends_are_checked() {
        let texts = |spec: Value| {
            validate(&json!({"spec": spec}))
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
        };
        assert!(texts(json!({}))[0].ends_with("either `defaultBackend` or `rules` must be specified"));
        let path = |kind: &str, path: &str| {
            json!({"rules": [{"http": {"paths": [{"pathType": kind, "path": path,
                "backend": {"service": {"name": "s", "port": {"number": 80}}}}]}}]})
        };
        assert!(texts(path("Prefix", "/")).is_empty());
        assert_eq!(
            texts(path("Exact", "a")),
            ["spec.rules[0].http.paths[0].path: Invalid value: \"a\": must be an absolute path"]
        );
        assert_eq!(
            texts(path("", "/")),
            ["spec.rules[0].http.paths[0].pathType: Required value: pathType must be specified"]
        );
        assert_eq!(
            texts(json!({"defaultBackend": {}})),
            ["spec.defaultBackend: Required value: resource or service backend is required"]
        );
    }
}
