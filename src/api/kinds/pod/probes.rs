//! Rules for probes and lifecycle hooks.

use serde_json::Value;

use crate::names;
use crate::status::FieldError;
use crate::value::Field;

/// Rules for a container's probes and hooks; `grace` is the pod's termination grace period in seconds.
pub fn check(container: &Field, grace: Option<i64>, errors: &mut Vec<FieldError>) {
    for hook in ["lifecycle.postStart", "lifecycle.preStop"] {
        let hook = container.get(hook);
        if hook.is_set() {
            handler(&hook, &["exec", "httpGet", "tcpSocket", "sleep"], grace, errors);
        }
    }
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let at = container.get(name);
        if at.is_set() {
            probe(&at, grace, errors);
            let successes = at.get("successThreshold");
            if name != "readinessProbe" && successes.int() != Some(1) {
                errors.push(successes.invalid("must be 1"));
            }
            let own_grace = at.get("terminationGracePeriodSeconds");
            if name == "readinessProbe" && own_grace.is_set() {
                errors.push(own_grace.invalid("must not be set for readinessProbes"));
            }
        }
    }
}

fn probe(probe: &Field, grace: Option<i64>, errors: &mut Vec<FieldError>) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], grace, errors);
    for key in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        probe.get(key).non_negative(errors);
    }
    let own_grace = probe.get("terminationGracePeriodSeconds");
    if own_grace.int().is_some_and(|n| n <= 0) {
        errors.push(own_grace.invalid("must be greater than 0"));
    }
}

fn handler(at: &Field, kinds: &[&str], grace: Option<i64>, errors: &mut Vec<FieldError>) {
    let mut found = 0;
    for kind in kinds {
        let handler = at.get(kind);
        if !handler.is_set() {
            continue;
        }
        found += 1;
        if found > 1 {
            errors.push(handler.forbidden("may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if handler.get("command").is_blank() => errors.push(handler.get("command").required("")),
            "httpGet" => http_get(&handler, errors),
            "tcpSocket" | "grpc" => port(&handler.get("port"), errors),
            "sleep" => sleep(&handler, grace, errors),
            _ => {}
        }
    }
    if found == 0 {
        errors.push(at.required("must specify a handler type"));
    }
}

fn http_get(at: &Field, errors: &mut Vec<FieldError>) {
    if at.get("path").is_blank() {
        errors.push(at.get("path").required(""));
    }
    port(&at.get("port"), errors);
    let scheme = at.get("scheme");
    if !["HTTP", "HTTPS"].contains(&scheme.text()) {
        errors.push(scheme.not_supported(&["HTTP", "HTTPS"]));
    }
    for header in at.items("httpHeaders") {
        let name = header.get("name");
        let token = |b: u8| b.is_ascii_alphanumeric() || b"-".contains(&b);
        if name.is_blank() || !name.text().bytes().all(token) {
            errors.push(FieldError::invalid(
                at.path_of("httpHeaders"),
                name.text(),
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for \
                 validation is '[-A-Za-z0-9]+')",
            ));
        }
    }
}

/// A port by number or by name.
fn port(at: &Field, errors: &mut Vec<FieldError>) {
    match at.value {
        Value::String(name) => errors.extend(at.invalid_each(names::is_port_name(name))),
        Value::Number(n) => errors.extend(at.invalid_each(names::is_port_number(n.as_i64().unwrap_or(0)))),
        // An absent port counts as number 0.
        _ => errors.extend(
            names::is_port_number(0)
                .into_iter()
                .map(|why| FieldError::invalid(&at.path, 0, why)),
        ),
    }
}

fn sleep(at: &Field, grace: Option<i64>, errors: &mut Vec<FieldError>) {
    let seconds = at.get("seconds").int().unwrap_or(0);
    let grace = grace.unwrap_or(30);
    if seconds < 0 || seconds > grace {
        errors.push(FieldError::invalid(
            &at.path,
            seconds,
            format!("must be non-negative and less than terminationGracePeriodSeconds ({grace})"),
        ));
    }
}
