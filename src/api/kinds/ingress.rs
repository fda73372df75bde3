//! Ingress: routes requests from outside to Services.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{cells, ingress_class};
use crate::kind::{Column, Kind, Subresource};
use crate::names;
use crate::object;
use crate::status::FieldError;
use crate::value::{Field, get, has, list, text};

/// Where the class was written before there was a field for it.
const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// The descriptor.
pub static KIND: Kind = Kind {
    group: "networking.k8s.io",
    kind: "Ingress",
    plural: "ingresses",
    singular: "ingress",
    short_names: &["ing"],
    subresources: &[Subresource::status("Ingress")],
    storage_version_hash: "39NQlfNR+bo=",
    validate: validate_create,
    validate_update: |new, _| validate(new),
    validate_status,
    warnings: |new, old| {
        let mut said = Vec::new();
        let old_way = old.is_none() && object::annotation(new, CLASS_ANNOTATION).is_some();
        if old_way && !has(new, "spec.ingressClassName") {
            said.push(format!(
                "annotation {CLASS_ANNOTATION:?} is deprecated, please use 'spec.ingressClassName' instead"
            ));
        }
        said
    },
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
        let why = "either `defaultBackend` or `rules` must be specified";
        errors.push(FieldError::invalid(
            &spec.path,
            spec.get("rules").value.clone(),
            why,
        ));
    }
    if default.is_set() {
        backend(&default, &mut errors);
    }
    for rule in spec.items("rules") {
        self::rule(&rule, &mut errors);
    }
    for tls in spec.items("tls") {
        for host in tls.items("hosts") {
            errors.extend(host.invalid_each(host_name(host.text())));
        }
        let secret = tls.get("secretName");
        if !secret.is_blank() {
            errors.extend(secret.invalid_each(names::is_dns_subdomain(secret.text())));
        }
    }
    let class = spec.get("ingressClassName");
    if class.is_set() {
        errors.extend(class.invalid_each(names::is_dns_subdomain(class.text())));
    }
    errors
}

/// Rules for a new Ingress: the class in the field is that of the old annotation.
fn validate_create(ingress: &Value) -> Vec<FieldError> {
    let mut errors = validate(ingress);
    let said = get(ingress, "metadata.annotations")
        .get(CLASS_ANNOTATION)
        .and_then(Value::as_str);
    let class = get(ingress, "spec.ingressClassName").as_str();
    if let (Some(said), Some(class)) = (said, class)
        && said != class
    {
        let why = "must match `ingressClassName` when both are specified";
        errors.push(FieldError::invalid(
            format!("annotations.{CLASS_ANNOTATION}"),
            said,
            why,
        ));
    }
    errors
}

fn host_name(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::is_wildcard_subdomain(host)
    } else {
        names::is_dns_subdomain(host)
    }
}

fn rule(rule: &Field, errors: &mut Vec<FieldError>) {
    let (host, http) = (rule.get("host"), rule.get("http"));
    if !host.is_blank() {
        if host.text().parse::<std::net::IpAddr>().is_ok() {
            errors.push(host.invalid("must be a DNS name, not an IP address"));
        }
        errors.extend(host.invalid_each(host_name(host.text())));
    }
    if http.is_set() && http.get("paths").is_blank() {
        errors.push(http.get("paths").required(""));
    }
    for path in http.items("paths") {
        http_path(&path, errors);
    }
}

fn http_path(path: &Field, errors: &mut Vec<FieldError>) {
    let (kind, at) = (path.get("pathType"), path.get("path"));
    if !kind.is_set() {
        errors.push(kind.required("pathType must be specified"));
        return;
    }
    let absolute = at.text().starts_with('/');
    match kind.text() {
        "Exact" | "Prefix" => {
            if !absolute {
                errors.push(at.invalid("must be an absolute path"));
            }
            let inside = ["//", "/./", "/../", "%2f", "%2F"]
                .into_iter()
                .filter(|bad| at.text().contains(bad));
            errors.extend(inside.map(|bad| at.invalid(format!("must not contain '{bad}'"))));
            let ends = ["/..", "/."].into_iter().filter(|bad| at.text().ends_with(bad));
            errors.extend(ends.map(|bad| at.invalid(format!("cannot end with '{bad}'"))));
        }
        "ImplementationSpecific" if !at.is_blank() && !absolute => {
            errors.push(at.invalid("must be an absolute path"));
        }
        "ImplementationSpecific" => {}
        _ => errors.push(kind.not_supported(&["Exact", "ImplementationSpecific", "Prefix"])),
    }
    backend(&path.get("backend"), errors);
}

fn backend(backend: &Field, errors: &mut Vec<FieldError>) {
    let (service, resource) = (backend.get("service"), backend.get("resource"));
    let why = match (service.is_set(), resource.is_set()) {
        (true, true) => "cannot set both resource and service backends",
        (false, false) => "resource or service backend is required",
        (true, false) => return to_service(backend, &service, errors),
        (false, true) => return ingress_class::reference(&resource, errors),
    };
    errors.push(FieldError::invalid(&backend.path, "", why));
}

fn to_service(backend: &Field, service: &Field, errors: &mut Vec<FieldError>) {
    let name = service.get("name");
    if name.needed(errors) {
        errors.extend(name.invalid_each(names::is_dns1035_label(name.text())));
    }
    let (named, numbered) = (service.get("port.name"), service.get("port.number"));
    match (named.is_blank(), numbered.int().unwrap_or(0)) {
        (true, 0) => errors.push(backend.required("port name or number is required")),
        (true, n) => errors.extend(numbered.invalid_each(names::is_port_number(n))),
        (false, 0) => errors.extend(named.invalid_each(names::is_port_name(named.text()))),
        (false, _) => errors.push(FieldError::invalid(
            &backend.path,
            "",
            "cannot set both port name & port number",
        )),
    }
}

/// Rules for what a balancer reports of itself.
fn validate_status(new: &Value, _old: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for ingress in Field::at(new, "status.loadBalancer").items("ingress") {
        let (ip, host) = (ingress.get("ip"), ingress.get("hostname"));
        if !ip.is_blank() {
            errors.extend(ip.invalid_each(names::is_ip(ip.text())));
        }
        if !host.is_blank() {
            errors.extend(host.invalid_each(names::is_dns_subdomain(host.text())));
            if names::is_ip(host.text()).is_empty() {
                errors.push(host.invalid("must be a DNS name, not an IP address"));
            }
        }
    }
    errors
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
            [
                "spec.rules[0].http.paths[0].pathType: Unsupported value: \"\": supported values: \"Exact\", \
              \"ImplementationSpecific\", \"Prefix\""
            ]
        );
        assert_eq!(
            texts(json!({"defaultBackend": {}})),
            ["spec.defaultBackend: Invalid value: \"\": resource or service backend is required"]
        );
    }
}
